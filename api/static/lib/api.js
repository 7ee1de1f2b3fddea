// Asking the API: JSON in and out; what goes wrong is a Problem with a sentence for a person.

/** An answer that is not what was asked for. `kind` is the last part of the problem's type. */
export class Problem extends Error {
  constructor(status, document, requestId) {
    super(document?.detail ?? sentence(status));
    this.status = status;
    this.kind = document?.type?.split("#problem-")[1] ?? null;
    this.title = document?.title ?? null;
    this.requestId = document?.request_id || requestId;
  }
}

function sentence(status) {
  if (!status) return "The server cannot be reached. Look at your connection, then try again.";
  return `The server answered with status ${status}.`;
}

/**
 * Send a request to `/api/v1/` + path and return the JSON of its answer (null if it has none).
 * Without a session the visitor is sent to sign in, unless `anonymous` is set.
 */
export async function ask(path, { method = "GET", body, signal, anonymous = false } = {}) {
  // As plain as it can be: with headers of its own it would not be what the page's head asked for.
  const options = { method, signal, credentials: "same-origin" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "content-type": "application/json" };
  }
  const response = await send(`/api/v1/${path}`, options);
  if (response.status === 401 && !anonymous) return await signIn();
  if (!response.ok) throw new Problem(response.status, await parsed(response), response.headers.get("x-metrion-request-id"));
  return response.status === 204 ? null : await parsed(response);
}

async function send(address, options) {
  try {
    return await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0);
  }
}

async function parsed(response) {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Leave for the sign-in page, to come back here. Never returns: the page goes away. */
export function signIn() {
  const here = location.pathname + location.search;
  location.assign(`/sign-in?${new URLSearchParams({ next: here })}`);
  return new Promise(() => {});
}
