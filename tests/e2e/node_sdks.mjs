// The official Node SDKs, changed in base URL and key only; what they got, as JSON on one line.
//
// node node_sdks.mjs '{"url", "keys": {"openai", "anthropic"}, "headers", "wrong"}'

import Anthropic, { AuthenticationError as AnthropicAuthenticationError } from "@anthropic-ai/sdk";
import OpenAI, { AuthenticationError, InternalServerError, RateLimitError } from "openai";

const { url, keys, headers, wrong } = JSON.parse(process.argv[2]);
const messages = [{ role: "user", content: "Hello there!" }];
const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };

const openaiWith = (apiKey, defaultHeaders) =>
  new OpenAI({ baseURL: `${url}/api/proxy/openai/v1`, apiKey, defaultHeaders, maxRetries: 0 });
const anthropicWith = (apiKey, defaultHeaders) =>
  new Anthropic({ baseURL: `${url}/api/proxy`, apiKey, defaultHeaders, maxRetries: 0 });
const openai = openaiWith(keys.openai, headers);
const anthropic = anthropicWith(keys.anthropic, headers);

async function openaiAnswers() {
  const model = "gpt-4o-mini";
  const answer = await openai.chat.completions.create({ model, messages });
  let streamed = "";
  for await (const chunk of await openai.chat.completions.create({ model, messages, stream: true }))
    streamed += chunk.choices[0].delta.content ?? "";
  const tooled = await openai.chat.completions.create({
    model,
    messages,
    tools: [{ type: "function", function: { name: "weather", parameters: schema } }],
    tool_choice: { type: "function", function: { name: "weather" } },
  });
  // Base64 by default, unlike in Python.
  const embedded = await openai.embeddings.create({ model: "text-embedding-3-small", input: "a" });
  const models = await openai.models.list();
  const response = await openai.responses.create({ model, input: "Hello there!" });
  return {
    chat: answer.choices[0].message.content,
    streamed,
    tool: tooled.choices[0].message.tool_calls[0].function,
    dimensions: embedded.data[0].embedding.length,
    models: models.data.length,
    response: response.output_text,
  };
}

async function anthropicAnswers() {
  const wish = { model: "claude-opus-4-1", max_tokens: 99, messages };
  const answer = await anthropic.messages.create(wish);
  let streamed = "";
  for await (const event of anthropic.messages.stream(wish))
    if (event.type === "content_block_delta") streamed += event.delta.text;
  const tooled = await anthropic.messages.create({
    ...wish,
    tools: [{ name: "weather", input_schema: schema }],
    tool_choice: { type: "tool", name: "weather" },
  });
  const counted = await anthropic.messages.countTokens({ model: wish.model, messages });
  const models = await anthropic.models.list();
  return {
    chat: answer.content[0].text,
    streamed,
    tool: { name: tooled.content[0].name, arguments: JSON.stringify(tooled.content[0].input) },
    tokens: counted.input_tokens,
    models: models.data.length,
  };
}

async function raised(kind, ask) {
  try {
    await ask();
  } catch (error) {
    return { expected: error instanceof kind, status: error.status, message: error.message };
  }
  return { expected: false };
}

const chat = (client, knobs) =>
  client.chat.completions.create({ model: "gpt-4o-mini", messages }, { headers: knobs });

console.log(
  JSON.stringify({
    openai: await openaiAnswers(),
    anthropic: await anthropicAnswers(),
    errors: {
      openai: await raised(AuthenticationError, () => chat(openaiWith(wrong, {}))),
      anthropic: await raised(AnthropicAuthenticationError, () =>
        anthropicWith(wrong, {}).messages.create({ model: "m", max_tokens: 9, messages }),
      ),
      rate: await raised(RateLimitError, () => chat(openai, { "x-fake-status": "429" })),
      failed: await raised(InternalServerError, () => chat(openai, { "x-fake-close": "head" })),
    },
  }),
);
