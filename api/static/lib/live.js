// New requests without a reload: a cheap question every few seconds, while somebody is looking.

import { ask } from "./api.js";

const SECONDS = 5;

/** Call `changed` when the account has new requests. The dot in the head says how it goes. */
export function watch(changed, seconds = SECONDS) {
  const light = document.querySelector("[data-live]");
  let known = null;
  let isAway = false;

  function tell(state, words) {
    if (!light) return;
    light.hidden = false;
    light.dataset.state = state;
    light.querySelector("span").textContent = words;
  }

  async function look() {
    if (document.hidden) return;
    try {
      const { version } = await ask("usage/version");
      // After an absence the page may show a failure: it is drawn anew in any case.
      const isNew = isAway || (known !== null && version !== known);
      known = version;
      isAway = false;
      tell(isNew ? "new" : "live", "Live");
      if (isNew) await changed();
    } catch {
      isAway = true;
      tell("away", "Reconnecting");
    }
  }

  async function run() {
    await look();
    setTimeout(run, seconds * 1000);
  }
  document.addEventListener("visibilitychange", look);
  run();
}
