// Profile: whose account this is, where it is signed in, the way out.

import { el } from "../dom.js";
import { ask } from "../lib/api.js";
import { drawDeletion } from "../lib/deletion.js";
import { confirmed } from "../lib/dialog.js";
import { ago, dateText } from "../lib/format.js";
import { account } from "../lib/shell.js";
import { busy, failure } from "../lib/states.js";
import { toast } from "../lib/toast.js";

const slot = (name) => document.querySelector(`[data-slot="${name}"]`);

async function signOut() {
  await ask("auth/sessions/current", { method: "DELETE" });
  location.assign("/sign-in");
}

function drawAccount({ email, id, created_at: created, plan }) {
  const facts = [
    ["E-mail", email],
    ["Plan", plan === "pro" ? "Pro" : "Free"],
    ["Since", dateText(created)],
    ["Account", el("code", null, id)],
  ];
  const button = el("button", { type: "button", class: "button" }, "Sign out");
  button.addEventListener("click", () => busy(button, () => signOut().catch((problem) => toast(problem.message))));
  slot("account").replaceChildren(el("div", { class: "stack" }, el("dl", { class: "facts" }, facts.flatMap(([name, value]) => [el("dt", null, name), el("dd", null, value)])), el("div", null, button)));
}

/** "Chrome on Linux": the two words of a user agent that people recognise. */
function deviceName(agent) {
  if (!agent) return "Unknown browser";
  const browser = [["Edg/", "Edge"], ["Firefox/", "Firefox"], ["Chrome/", "Chrome"], ["Safari/", "Safari"], ["curl/", "curl"]].find(([mark]) => agent.includes(mark));
  const system = [["iPhone", "iPhone"], ["iPad", "iPad"], ["Android", "Android"], ["Mac OS", "macOS"], ["Windows", "Windows"], ["Linux", "Linux"]].find(([mark]) => agent.includes(mark));
  return [browser?.[1] ?? agent.slice(0, 60), system?.[1]].filter(Boolean).join(" on ");
}

function sessionLine(session) {
  const name = deviceName(session.user_agent);
  const end = async () => {
    if (!(await confirmed({ title: "End this session?", text: `${name} has to sign in again.`, action: "End it" }))) return;
    try {
      await ask(`auth/sessions/${session.id}`, { method: "DELETE" });
      toast("The session is over.");
      await drawSessions();
    } catch (problem) {
      toast(problem.message);
    }
  };
  const button = session.current ? el("span", { class: "pill s2" }, "this one") : el("button", { type: "button", class: "button small", "aria-label": `End the session of ${name}`, onclick: end }, "End");
  return el("li", { class: "provider" }, el("div", { class: "row" }, el("div", { class: "who" }, el("b", { title: session.user_agent }, name), el("span", { class: "hint" }, `signed in on ${dateText(session.created_at)} · last seen ${ago(session.last_seen_at)}`)), button));
}

async function drawSessions() {
  try {
    const { items } = await ask("auth/sessions");
    slot("sessions").replaceChildren(el("ul", null, items.map(sessionLine)));
  } catch (problem) {
    slot("sessions").replaceChildren(failure(problem, drawSessions));
  }
}

drawSessions();
try {
  const mine = await account;
  drawAccount(mine);
  drawDeletion(slot("deletion"), mine.email);
} catch (problem) {
  slot("account").replaceChildren(failure(problem, () => location.reload()));
  slot("deletion").replaceChildren();
}
