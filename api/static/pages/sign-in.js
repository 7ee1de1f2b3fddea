// Signing in: an address, then the code that was sent there.

import { el } from "../dom.js";
import { ask } from "../lib/api.js";
import { busy } from "../lib/states.js";

const RESEND_SECONDS = 30;
const about = ask("meta", { anonymous: true });
const gate = document.querySelector('[data-slot="gate"]');

/** Where to go afterwards: a path of this site, nothing else. */
function nextPath() {
  const wanted = new URLSearchParams(location.search).get("next") ?? "";
  try {
    const address = new URL(wanted, location.origin);
    if (wanted.startsWith("/") && address.origin === location.origin) return address.pathname + address.search;
  } catch {
    // Not an address: the usual page then.
  }
  return "/overview";
}

function wrongSentence() {
  return el("p", { class: "wrong", role: "alert", id: "wrong" });
}

function askAddress(address = "") {
  const input = el("input", { type: "email", id: "email", name: "email", autocomplete: "email", required: "", maxlength: "254", placeholder: "you@example.com", value: address, "aria-describedby": "wrong" });
  const wrong = wrongSentence();
  const button = el("button", { class: "button primary" }, "Send a code");
  const send = (event) => {
    event.preventDefault();
    wrong.textContent = "";
    return busy(button, async () => {
      try {
        await sendCode(input.value.trim());
        askCode(input.value.trim());
      } catch (problem) {
        wrong.textContent = problem.message;
        input.focus();
      }
    });
  };
  gate.replaceChildren(
    el("div", null, el("h1", null, "Sign in to Metrion"), el("p", { class: "dim" }, "We send you a code by e-mail. There is no password.")),
    el("form", { onsubmit: send }, el("div", { class: "field" }, el("label", { for: "email" }, "E-mail address"), input), wrong, button),
  );
  input.focus();
}

const sendCode = (email) => ask("auth/codes", { method: "POST", body: { email }, anonymous: true });

function askCode(email) {
  const input = el("input", { class: "digits", id: "code", name: "code", type: "text", inputmode: "numeric", autocomplete: "one-time-code", pattern: "[0-9]{6}", maxlength: "6", required: "", "aria-describedby": "wrong code-hint" });
  const wrong = wrongSentence();
  const button = el("button", { class: "button primary" }, "Sign in");
  const enter = (event) => {
    event?.preventDefault();
    wrong.textContent = "";
    return busy(button, async () => {
      try {
        await ask("auth/sessions", { method: "POST", body: { email, code: input.value }, anonymous: true });
        location.replace(nextPath());
      } catch (problem) {
        wrong.textContent = problem.message;
        input.value = "";
        input.focus();
      }
    });
  };
  input.addEventListener("input", () => {
    input.value = input.value.replace(/\D/g, "").slice(0, 6);
    if (input.value.length === 6) enter();
  });
  // without a mail server the code comes as a file, to whoever runs this
  const place = el("p", { class: "note", hidden: "" }, "This Metrion has no mail server: the mail is the newest file in the folder ", el("code", null, "mail"), " of its data directory.");
  about.then(({ keeps_mails: kept }) => (place.hidden = !kept), () => {}); // only a hint
  gate.replaceChildren(
    el("div", null, el("h1", null, "Look at your mail"), el("p", { class: "dim", id: "code-hint" }, "If ", el("strong", null, email), " may sign in here, a code of six digits is on its way. It is good for 10 minutes.")),
    place,
    el("form", { onsubmit: enter }, el("div", { class: "field" }, el("label", { for: "code" }, "Code"), input), wrong, button),
    el("div", { class: "row" }, el("button", { type: "button", class: "button quiet small", onclick: () => askAddress(email) }, "Another address"), resendButton(email, wrong)),
  );
  input.focus();
}

function resendButton(email, wrong) {
  const button = el("button", { type: "button", class: "button quiet small" }, "Send another code");
  function wait() {
    button.disabled = true;
    setTimeout(() => (button.disabled = false), RESEND_SECONDS * 1000);
  }
  button.addEventListener("click", async () => {
    wait();
    try {
      await sendCode(email);
      wrong.textContent = "Another code is on its way; the earlier one no longer works.";
    } catch (problem) {
      wrong.textContent = problem.message;
    }
  });
  wait();
  return button;
}

async function tellAbout() {
  const { region, registration, version } = await about;
  const who = { open: "New here? The first sign-in makes your account.", invite: "New accounts need an invitation.", closed: "No new accounts here." }[registration];
  const footnote = document.querySelector('[data-slot="about"]');
  footnote.append(el("span", null, who), el("span", null, `Data kept in ${region}`), el("span", null, `Metrion ${version}`));
}

askAddress();
tellAbout().catch(() => {}); // only a footnote
