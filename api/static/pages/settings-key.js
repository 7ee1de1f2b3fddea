// Settings, Metrion Key: see it, copy it, make a new one.

import { ask } from "../lib/api.js";
import { confirmed } from "../lib/dialog.js";
import "../lib/shell.js";
import { busy } from "../lib/states.js";
import { toast } from "../lib/toast.js";
import { showToken } from "../lib/token-box.js";

const box = await showToken(document.querySelector('[data-slot="token"]'));
const button = document.querySelector("[data-regenerate]");

async function regenerate() {
  const text = "Every program that uses the key of today is refused from this moment, until it has the new one.";
  if (!(await confirmed({ title: "Regenerate the Metrion Key?", text, action: "Regenerate" }))) return;
  try {
    const { token } = await ask("token/regenerate", { method: "POST" });
    box.show(token);
    toast("This is the new key; the old one no longer works.");
  } catch (problem) {
    toast(problem.message);
  }
}

button.addEventListener("click", () => busy(button, regenerate));
