// Deleting the account: what goes, a code by mail, then the goodbye.

import { el } from "../dom.js";
import { ask, signIn } from "./api.js";
import { busy } from "./states.js";

const GOES = ["the request log and all usage records", "provider keys and the Metrion Key, which stops working at once", "alert rules, stored answers and sessions", "the subscription, if there is one: it is cancelled first"];

/** Fill a card with the way to delete the account; `email` is where the code goes. */
export function drawDeletion(place, email) {
  const wrong = wrongSentence("deletion-wrong");
  const button = el("button", { type: "button", class: "button danger" }, "Send me a code");
  const begin = () =>
    busy(button, async () => {
      wrong.textContent = "";
      try {
        await ask("account/deletion-codes", { method: "POST" });
        askCode(place, email);
      } catch (problem) {
        wrong.textContent = problem.message;
      }
    });
  button.addEventListener("click", begin);
  const exported = el("p", null, "Nothing can bring it back. ", el("a", { class: "link", href: "/settings/general" }, "Download your data"), " first if you want to keep something.");
  place.replaceChildren(el("div", { class: "stack prose" }, el("p", null, "Everything goes, for ever:"), el("ul", { class: "plain" }, GOES.map((each) => el("li", null, each))), exported, wrong, el("div", { class: "row" }, button)));
}

function askCode(place, email) {
  const input = el("input", { class: "digits", id: "deletion-code", type: "text", inputmode: "numeric", autocomplete: "one-time-code", pattern: "[0-9]{6}", maxlength: "6", required: "", "aria-describedby": "deletion-wrong deletion-hint" });
  const wrong = wrongSentence("deletion-wrong");
  const button = el("button", { class: "button danger" }, "Delete my account");
  const cancel = el("button", { type: "button", class: "button", onclick: () => drawDeletion(place, email) }, "Keep it");
  const send = (event) => {
    event.preventDefault();
    wrong.textContent = "";
    return busy(button, async () => {
      try {
        const { receipt } = await ask("account", { method: "DELETE", body: { code: input.value }, anonymous: true });
        sayGoodbye(email, receipt);
      } catch (problem) {
        if (problem.kind === "not-signed-in") return signIn();
        wrong.textContent = problem.message;
        input.value = "";
        input.focus();
      }
    });
  };
  input.addEventListener("input", () => (input.value = input.value.replace(/\D/g, "").slice(0, 6)));
  const hint = el("p", { id: "deletion-hint" }, "A code of six digits is on its way to ", el("strong", null, email), ". It is good for 10 minutes. With it the account is deleted at once.");
  place.replaceChildren(el("form", { class: "stack", onsubmit: send }, hint, el("div", { class: "field" }, el("label", { for: "deletion-code" }, "Code"), input), wrong, el("div", { class: "row" }, button, cancel)));
  input.focus();
}

/** The whole page: nothing on it works any more. */
function sayGoodbye(email, receipt) {
  const heading = el("h2", { tabindex: "-1" }, "Your account is shut and being deleted");
  const page = document.querySelector("main");
  page.replaceChildren(
    el(
      "section",
      { class: "card stack" },
      heading,
      el("p", null, "Nobody gets in any more. A receipt goes to ", el("strong", null, email), " when everything is gone: it says what was deleted, and has the number"),
      el("p", null, el("code", null, receipt)),
      el("p", null, "The keys that you stored here still work at the providers. Revoke them there if nothing else uses them."),
      el("div", null, el("a", { class: "button", href: "/sign-in" }, "Leave")),
    ),
  );
  document.querySelectorAll("nav").forEach((each) => each.setAttribute("inert", ""));
  heading.focus();
}

function wrongSentence(id) {
  return el("p", { class: "wrong", role: "alert", id });
}
