/** Requests to the server that this page came from. */

/** The server refused a request, or could not be reached. */
export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Return the address of a route with its parameters; those that are empty are left out. */
export function address(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

async function request(path, parameters, options) {
  let response;
  try {
    response = await fetch(address(path, parameters), { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server does not answer. Is the command still running?");
  }
  if (response.ok) return response;
  let detail = `The server answered ${response.status}.`;
  try {
    const answer = await response.json();
    if (typeof answer.detail === "string") detail = answer.detail;
  } catch {
    // The answer was no JSON: the status says what there is to say.
  }
  throw new ApiError(detail, response.status);
}

/** Get JSON. */
export const getJson = async (path, parameters, signal) => (await request(path, parameters, { signal })).json();

/** Get bytes as a blob. */
export const getBlob = async (path, parameters, signal) => (await request(path, parameters, { signal })).blob();

/** Send JSON, and return the JSON of the answer. */
export async function sendJson(method, path, body, { parameters, signal } = {}) {
  const options = { method, signal };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  return (await request(path, parameters, options)).json();
}

/** Send a blob or a form, and return the JSON of the answer. */
export async function sendBody(method, path, body, { parameters, signal } = {}) {
  const headers = body instanceof Blob ? { "Content-Type": body.type } : {};
  return (await request(path, parameters, { method, body, headers, signal })).json();
}
