// Settings, Plan: how much of the month is used, what the plans give, paying for one.

import { el, inline } from "../dom.js";
import { ask } from "../lib/api.js";
import { counted, dateText, integer, percent } from "../lib/format.js";
import { account } from "../lib/shell.js";
import { busy, failure } from "../lib/states.js";
import { copy } from "../lib/toast.js";

const POLL_MS = 2000;
const POLLS = 45; // Stripe's word comes within seconds; without it the server asks every minute
const PORTAL_POLLS = 5;
const WARN_SHARE = 0.8;
const slot = (name) => document.querySelector(`[data-slot="${name}"]`);

function usage({ month_requests: count, month_limit: limit }) {
  if (limit === null) return [el("p", null, el("strong", null, integer(count)), count === 1 ? " request" : " requests", ". There is no limit.")];
  const share = limit ? Math.min(1, count / limit) : 1;
  const used = el("div", { class: "notice mild" }, el("p", null, "The month is used up: requests are refused until the 1st, 00:00 UTC. What was recorded stays readable."));
  const soon = el("div", { class: "notice mild" }, el("p", null, `${counted(limit - count, "request is", "requests are")} left until the 1st, 00:00 UTC.`));
  return [
    el("p", null, el("strong", null, integer(count)), ` of ${integer(limit)} requests (${percent(share)})`),
    el("div", { class: "meter", role: "meter", "aria-label": "Requests this month", "aria-valuemin": 0, "aria-valuemax": limit, "aria-valuenow": Math.min(count, limit) }, el("span", { style: { "--w": `${100 * share}%` } })),
    share >= 1 ? used : share >= WARN_SHARE ? soon : null,
    el("p", { class: "hint" }, "Counted anew from the 1st of each month, 00:00 UTC. Hits of the cache count, refused requests do not."),
  ];
}

function planCard(plan, isMine) {
  const gives = [
    plan.month_limit === null ? "Any number of requests" : `${integer(plan.month_limit)} requests a month`,
    `Log rows for ${integer(plan.retention_days)} days`,
    `Up to ${integer(plan.alert_rules)} alert rules`,
    "Daily records for as long as the account",
    "Every page, provider, export and the cache",
  ];
  return el("div", { class: "plan-card", "data-mine": isMine ? "" : null }, el("h3", null, plan.title, isMine ? el("span", { class: "plan" }, "yours") : null), el("ul", { class: "plain" }, gives.map((each) => el("li", null, each))));
}

/** Buttons that ask the server for a page at Stripe and go there: `[path, label, class]`. */
function leading(...choices) {
  const wrong = el("p", { class: "wrong", role: "alert", hidden: "" });
  async function go(path) {
    wrong.hidden = true;
    try {
      location.assign((await ask(`billing/${path}`, { method: "POST" })).url);
    } catch (problem) {
      wrong.hidden = false;
      wrong.textContent = problem.message;
    }
  }
  const button = ([path, label, look = "button"]) => {
    const made = el("button", { type: "button", class: look }, label);
    made.addEventListener("click", () => busy(made, () => go(path)));
    return made;
  };
  return el("div", { class: "stack" }, el("div", { class: "row" }, choices.map(button)), wrong);
}

const manage = (label) => leading(["portal", label]);
const sentence = (text) => el("p", null, inline(text));
const warning = (text) => el("div", { class: "notice mild" }, el("p", null, text));
const until = (subscription) => (subscription.current_period_end ? ` on ${dateText(subscription.current_period_end)}` : "");

function live(plan, subscription) {
  const goesOn = subscription.cancel_at_period_end ? `It ends${until(subscription)}; until then everything stays as it is.` : `It renews${until(subscription)}.`;
  if (plan === "free") return [sentence(`Whoever runs this Metrion has put the account on Free. Your subscription goes on. ${goesOn}`), manage("Manage the subscription")];
  if (subscription.status === "past_due") return [warning("The last payment failed. Pro stays while it is tried again; please look at the card."), manage("Look at the card")];
  return [sentence(`You subscribe to Pro. ${goesOn}`), manage("Manage the subscription")];
}

function payment({ email, plan, retention_days: days }, { takes_payments: paid, can_manage: known, subscription }) {
  if (!paid) {
    const how = plan === "pro" ? "Whoever runs it has put you on Pro." : "Whoever runs it puts accounts on Pro:";
    const command = `metrion plan set ${email} pro`;
    return [sentence(`This Metrion takes no payments. ${how}`), plan === "pro" ? null : el("div", { class: "code" }, el("pre", { tabindex: "0", role: "region", "aria-label": "Command" }, el("code", null, command)), el("button", { type: "button", class: "button small", onclick: () => copy(command, "Command") }, "Copy"))];
  }
  if (subscription?.is_live) return live(plan, subscription);
  if (["unpaid", "incomplete", "paused"].includes(subscription?.status)) return [warning("Your subscription waits for a payment. Pro begins again when it is made."), manage("Go and pay")];
  if (plan === "pro") return [sentence("Whoever runs this Metrion has put you on Pro. You are not charged for it."), known ? manage("Invoices and card") : null];
  const ended = subscription ? sentence(`Your subscription has ended. Log rows of the last ${integer(days)} days and all daily records are still here.`) : null;
  const invoices = known ? [["portal", "Invoices and card"]] : [];
  return [ended, sentence("Pro is a subscription at Stripe, which keeps your card; Metrion never sees it. You can end it at any time."), leading(["checkout", "Upgrade to Pro", "button primary"], ...invoices)];
}

function draw(mine, billing) {
  const fill = (name, children) => slot(name).replaceChildren(el("div", { class: "stack" }, children));
  fill("usage", usage(mine));
  fill("plans", el("div", { class: "plans" }, billing.plans.map((each) => planCard(each, each.name === mine.plan))));
  fill("payment", payment(mine, billing));
}

const pause = () => new Promise((resolve) => setTimeout(resolve, POLL_MS));

function showPlan(name) {
  document.querySelector("[data-plan]").textContent = name === "pro" ? "Pro" : "Free";
}

function say(news) {
  slot("news").hidden = false;
  slot("news").replaceChildren(news);
}

/** Back from Stripe: wait until the payment is confirmed, then show the new plan. */
async function awaitPro(mine) {
  history.replaceState(null, "", location.pathname);
  for (let poll = 0; poll < POLLS && mine?.plan !== "pro"; poll += 1) {
    if (poll === 0) say(el("div", { class: "card waiting" }, el("span", { class: "pulse", "aria-hidden": "true" }), "Waiting for Stripe to confirm the payment…"));
    await pause();
    mine = await ask("account").catch(() => null); // the next one may be answered
  }
  if (mine?.plan !== "pro") return say(warning("Stripe has not confirmed the payment yet. When it does, Pro begins by itself; you need not wait here."));
  draw(mine, await ask("billing"));
  showPlan("pro");
  say(el("div", { class: "notice fine" }, el("p", null, "Welcome to Pro: from now on there is no monthly limit.")));
}

/** Back from Stripe's portal: what was done there comes here by a webhook, in a second or two. */
async function awaitChange(mine, billing) {
  history.replaceState(null, "", location.pathname);
  const before = JSON.stringify([mine.plan, billing]);
  for (let poll = 0; poll < PORTAL_POLLS; poll += 1) {
    await pause();
    const [account, found] = await Promise.all([ask("account"), ask("billing")]);
    if (JSON.stringify([account.plan, found]) === before) continue;
    draw(account, found);
    showPlan(account.plan);
    return;
  }
}

try {
  const [mine, billing] = await Promise.all([account, ask("billing")]);
  draw(mine, billing);
  const query = new URLSearchParams(location.search);
  if (query.get("checkout") === "done") await awaitPro(mine);
  if (query.get("portal") === "done") await awaitChange(mine, billing);
} catch (problem) {
  slot("usage").replaceChildren(failure(problem, () => location.reload()));
  slot("plans").replaceChildren();
  slot("payment").replaceChildren();
}
