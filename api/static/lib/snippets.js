// Code that sends a first request, for each provider: base URL and key are all that is special.

const QUESTION = "Say hello in five words.";

const MODELS = { openai: "gpt-5-mini", anthropic: "claude-sonnet-4-5", gemini: "gemini-2.5-flash", mistral: "mistral-small-latest", grok: "grok-4" };

/** The languages, in the order of the tabs. */
export const LANGUAGES = [
  ["python", "Python"],
  ["typescript", "TypeScript"],
  ["curl", "curl"],
];

const openAiBase = (proxy, provider) => `${proxy}/api/proxy/${provider}/v1`;

function pythonOpenAi(proxy, provider, key) {
  return `# pip install openai
from openai import OpenAI

client = OpenAI(
    base_url="${openAiBase(proxy, provider)}",
    api_key="${key}",
)
answer = client.chat.completions.create(
    model="${MODELS[provider]}",
    messages=[{"role": "user", "content": "${QUESTION}"}],
)
print(answer.choices[0].message.content)`;
}

function typescriptOpenAi(proxy, provider, key) {
  return `// npm install openai
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: "${openAiBase(proxy, provider)}",
  apiKey: "${key}",
});
const answer = await client.chat.completions.create({
  model: "${MODELS[provider]}",
  messages: [{ role: "user", content: "${QUESTION}" }],
});
console.log(answer.choices[0].message.content);`;
}

function curlOpenAi(proxy, provider, key) {
  return `curl ${openAiBase(proxy, provider)}/chat/completions \\
  --header "Authorization: Bearer ${key}" \\
  --json '{
    "model": "${MODELS[provider]}",
    "messages": [{"role": "user", "content": "${QUESTION}"}]
  }'`;
}

const ANTHROPIC = {
  python: (proxy, key) => `# pip install anthropic
from anthropic import Anthropic

client = Anthropic(
    base_url="${proxy}/api/proxy",
    api_key="${key}",
)
answer = client.messages.create(
    model="${MODELS.anthropic}",
    max_tokens=200,
    messages=[{"role": "user", "content": "${QUESTION}"}],
)
print(answer.content[0].text)`,
  typescript: (proxy, key) => `// npm install @anthropic-ai/sdk
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({
  baseURL: "${proxy}/api/proxy",
  apiKey: "${key}",
});
const answer = await client.messages.create({
  model: "${MODELS.anthropic}",
  max_tokens: 200,
  messages: [{ role: "user", content: "${QUESTION}" }],
});
console.log(answer.content);`,
  curl: (proxy, key) => `curl ${proxy}/api/proxy/v1/messages \\
  --header "x-api-key: ${key}" \\
  --header "anthropic-version: 2023-06-01" \\
  --json '{
    "model": "${MODELS.anthropic}",
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "${QUESTION}"}]
  }'`,
};

const GEMINI = {
  python: (proxy, key) => `# pip install google-genai
from google import genai

client = genai.Client(
    api_key="${key}",
    http_options={"base_url": "${proxy}/api/proxy/gemini"},
)
answer = client.models.generate_content(
    model="${MODELS.gemini}",
    contents="${QUESTION}",
)
print(answer.text)`,
  typescript: (proxy, key) => `// npm install @google/genai
import { GoogleGenAI } from "@google/genai";

const client = new GoogleGenAI({
  apiKey: "${key}",
  httpOptions: { baseUrl: "${proxy}/api/proxy/gemini" },
});
const answer = await client.models.generateContent({
  model: "${MODELS.gemini}",
  contents: "${QUESTION}",
});
console.log(answer.text);`,
  curl: (proxy, key) => `curl ${proxy}/api/proxy/gemini/v1beta/models/${MODELS.gemini}:generateContent \\
  --header "x-goog-api-key: ${key}" \\
  --json '{"contents": [{"parts": [{"text": "${QUESTION}"}]}]}'`,
};

const MISTRAL = {
  python: (proxy, key) => `# pip install mistralai
from mistralai import Mistral

client = Mistral(
    server_url="${proxy}/api/proxy/mistral",
    api_key="${key}",
)
answer = client.chat.complete(
    model="${MODELS.mistral}",
    messages=[{"role": "user", "content": "${QUESTION}"}],
)
print(answer.choices[0].message.content)`,
  typescript: (proxy, key) => `// npm install @mistralai/mistralai
import { Mistral } from "@mistralai/mistralai";

const client = new Mistral({
  serverURL: "${proxy}/api/proxy/mistral",
  apiKey: "${key}",
});
const answer = await client.chat.complete({
  model: "${MODELS.mistral}",
  messages: [{ role: "user", content: "${QUESTION}" }],
});
console.log(answer.choices?.[0].message.content);`,
  curl: (proxy, key) => curlOpenAi(proxy, "mistral", key),
};

const openAiStyle = (provider) => ({
  python: (proxy, key) => pythonOpenAi(proxy, provider, key),
  typescript: (proxy, key) => typescriptOpenAi(proxy, provider, key),
  curl: (proxy, key) => curlOpenAi(proxy, provider, key),
});

const SNIPPETS = { anthropic: ANTHROPIC, gemini: GEMINI, mistral: MISTRAL, openai: openAiStyle("openai"), grok: openAiStyle("grok") };

/** The code for a provider in a language. */
export function snippet(provider, language, proxy, key) {
  return SNIPPETS[provider][language](proxy, key);
}
