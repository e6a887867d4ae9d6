// The API key of a server that wants one: asked for when it is missing, kept for as long as this tab lives.

import { byId, tell } from "./dom.js";

const NAME = "hippotune-api-key";
let asking = null;

export const currentKey = () => sessionStorage.getItem(NAME);

/** The header for a key, none for null. */
export const authorization = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

/** Returns once there is another key than one that was refused. Many may wait; one dialog is shown. */
export async function anotherKey(refused) {
  if (currentKey() !== refused) return;
  asking ??= ask(refused).finally(() => (asking = null));
  await asking;
}

function ask(refused) {
  const [dialog, input] = [byId("key"), byId("key-value")];
  tell(byId("key-message"), refused ? "The server does not know this key." : "", true);
  input.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    let given = false;
    dialog.onclose = () => given || dialog.showModal(); // Escape closes it, and all calls wait for a key
    byId("key-form").onsubmit = (event) => {
      event.preventDefault();
      given = true;
      sessionStorage.setItem(NAME, input.value.trim());
      dialog.close();
      resolve();
    };
  });
}
