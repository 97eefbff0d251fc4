//! `POST /v1/chat/completions` and `GET /v1/models`: the bigger model for programs on this machine, as OpenAI's API does it.
//!
//! What is understood: `messages` (text), `max_tokens` or `max_completion_tokens`, `temperature`, `top_p`, `seed`, `stop`,
//! `stream`, `stream_options.include_usage`, `response_format` (`text`, `json_object`, `json_schema` as far as
//! [`Schema`] goes); and as llama.cpp's server has them `top_k`, `min_p`, `repeat_penalty` (or `repetition_penalty`) and
//! `grammar`. Keys that can't change an answer are ignored ([`WITHOUT_EFFECT`]), and so are keys that say nothing: null, empty, or
//! [`SWITCHED_OFF`]. Every other key is refused by name: an answer that is not what was asked for would not show it. A
//! client that goes away ends its answer. Served on loopback only: there is no login.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use smol::stream::{self, Stream};

use super::Shared;
use crate::clock;
use crate::glm::constrain::Schema;
use crate::glm::generate::Usage;
use crate::glm::sample::Sampling;
use crate::glm::speaker::{End, Form, Message, Role, Said, Talk};
use crate::glm::{Listening, Unheard};
use crate::http::Response;
use crate::limits;

/// Where conversations are posted.
pub(super) const COMPLETIONS: &str = "/v1/chat/completions";

/// The models that can be asked: one.
pub(super) fn models(shared: &Shared) -> Response {
    let Some(model) = shared.glm.model().filter(|_| shared.options.chat) else { return off() };
    Response::json(&json!({
        "object": "list",
        "data": [{ "id": model, "object": "model", "created": 0, "owned_by": "outpost" }],
    }))
}

/// Answers a conversation, whole or piece by piece.
pub(super) async fn complete(shared: &Shared, body: &[u8]) -> Response {
    let Some(model) = shared.glm.model().filter(|_| shared.options.chat) else { return off() };
    let asked = match parse(body, model) {
        Ok(asked) => asked,
        Err(refusal) => return refusal.into(),
    };
    let head =
        Head { id: format!("chatcmpl-{:016x}", fastrand::u64(..)), created: created(), model: model.into() };
    let listening = match shared.glm.talk("chat", asked.talk) {
        Ok(listening) => listening,
        Err(unheard) => return unheard_response(&unheard),
    };
    match asked.stream {
        false => whole(&head, listening).await,
        true => pieces(head, listening, asked.include_usage).await,
    }
}

fn off() -> Response {
    let message = "the model is not served: set glm.chat = true, and digest.model to the folder of an imported model or glm.device";
    Refusal { status: 404, kind: "invalid_request_error", param: None, code: None, message: message.into() }
        .into()
}

/// A request as it is sent.
#[derive(Debug, Deserialize)]
struct Raw {
    model: Option<String>,
    messages: Vec<RawMessage>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    #[serde(alias = "repetition_penalty")]
    repeat_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    seed: Option<i64>,
    stop: Option<OneOrMany>,
    n: Option<u64>,
    #[serde(default)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    response_format: Option<ResponseFormat>,
    grammar: Option<String>,
    /// What this does not know.
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct RawMessage {
    role: String,
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Debug, Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<JsonSchema>,
}

/// With its name and whether it is strict, which it always is.
#[derive(Debug, Deserialize)]
struct JsonSchema {
    schema: Schema,
}

/// A request as it is meant.
#[derive(Debug)]
struct Asked {
    talk: Talk,
    stream: bool,
    include_usage: bool,
}

/// A request that is not answered, in the API's own shape.
#[derive(Debug)]
struct Refusal {
    status: u16,
    kind: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
    message: String,
}

impl Refusal {
    /// The client's fault.
    fn bad(param: impl Into<String>, message: impl Into<String>) -> Refusal {
        let (kind, message) = ("invalid_request_error", message.into());
        Refusal { status: 400, kind, param: Some(param.into()), code: None, message }
    }

    fn value(&self) -> Value {
        json!({ "error": { "message": self.message, "type": self.kind, "param": self.param, "code": self.code } })
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Response {
        Response::json(&refusal.value()).with_status(refusal.status)
    }
}

fn parse(body: &[u8], model: &str) -> Result<Asked, Refusal> {
    let raw: Raw = serde_json::from_slice(body).map_err(|e| Refusal {
        param: None,
        ..Refusal::bad("", format!("the body can't be understood: {e}"))
    })?;
    if let Some(other) = raw.model.as_deref().filter(|name| *name != model) {
        let message = format!("there is no model {other:?} here; use {model:?} or leave the key out");
        let code = Some("model_not_found");
        return Err(Refusal { status: 404, code, ..Refusal::bad("model", message) });
    }
    not_understood(&raw)?;
    let sampling = sampling(&raw)?;
    let form = form(&raw)?;
    let messages = messages(raw.messages)?;
    let stops = match raw.stop {
        None => Vec::new(),
        Some(OneOrMany::One(stop)) => vec![stop],
        Some(OneOrMany::Many(stops)) => stops,
    };
    if stops.len() > limits::STOPS_MAX {
        return Err(Refusal::bad("stop", format!("there are more than {} stop strings", limits::STOPS_MAX)));
    }
    let tokens_max = raw.max_completion_tokens.or(raw.max_tokens);
    if tokens_max == Some(0) {
        return Err(Refusal::bad("max_tokens", "an answer has at least one token"));
    }
    // Where nothing is said, what the configuration allows.
    let tokens_max = tokens_max.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let deadline = Some(clock::mono() + ANSWER_TIME);
    Ok(Asked {
        talk: Talk { sampling, stops, form, deadline, ..Talk::new(messages, tokens_max) },
        stream: raw.stream.unwrap_or(false),
        include_usage: raw.stream_options.is_some_and(|options| options.include_usage),
    })
}

/// Refuses what would change the answer.
fn not_understood(raw: &Raw) -> Result<(), Refusal> {
    let set = |x: Option<f32>| x.is_some_and(|x| x != 0.0);
    let refused = [
        ("n", raw.n.is_some_and(|n| n != 1), "one answer at a time is given"),
        ("frequency_penalty", set(raw.frequency_penalty), "not supported; use repeat_penalty"),
        ("presence_penalty", set(raw.presence_penalty), "not supported; use repeat_penalty"),
    ];
    if let Some((param, _, message)) = refused.into_iter().find(|(_, is_set, _)| *is_set) {
        return Err(Refusal::bad(param, message));
    }
    let speaks = |(key, value): &(&String, &Value)| {
        !WITHOUT_EFFECT.contains(&key.as_str()) && !says_nothing(key, value)
    };
    match raw.others.iter().find(speaks) {
        Some((key, _)) => Err(Refusal::bad(key, format!("{key} is not supported; leave it out"))),
        None => Ok(()),
    }
}

/// Whether a value is what clients send for a key that they do not use.
fn says_nothing(key: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(false) => SWITCHED_OFF.contains(&key),
        Value::String(text) => match text.as_str() {
            "" => true,
            "none" | "auto" => SWITCHED_OFF.contains(&key),
            _ => false,
        },
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        _ => false,
    }
}

fn sampling(raw: &Raw) -> Result<Sampling, Refusal> {
    let between = |param: &'static str, value: Option<f32>, default: f32, min: f32, max: f32| {
        let value = value.unwrap_or(default);
        match (min..=max).contains(&value) {
            true => Ok(value),
            false => Err(Refusal::bad(
                param,
                format!("{param} = {value} is not possible; choose one from {min} to {max}"),
            )),
        }
    };
    Ok(Sampling {
        temperature: between("temperature", raw.temperature, 1.0, 0.0, 2.0)?,
        top_k: usize::try_from(raw.top_k.unwrap_or(0)).unwrap_or(0),
        // 0 would leave nothing: what clients mean by it is the likeliest token.
        top_p: between("top_p", raw.top_p, 1.0, 0.0, 1.0)?.max(f32::MIN_POSITIVE),
        min_p: between("min_p", raw.min_p, 0.0, 0.0, 1.0)?,
        repetition_penalty: between("repeat_penalty", raw.repeat_penalty, 1.0, 0.1, 10.0)?,
        seed: raw.seed.map_or_else(|| fastrand::u64(..), i64::cast_unsigned),
    })
}

fn form(raw: &Raw) -> Result<Form, Refusal> {
    let bad = |message: String| Err(Refusal::bad("response_format", message));
    let kind = raw.response_format.as_ref().map_or("text", |format| format.kind.as_str());
    let schema = raw.response_format.as_ref().and_then(|format| format.json_schema.as_ref());
    match (kind, schema, &raw.grammar) {
        ("text", _, None) => Ok(Form::Free),
        ("text", _, Some(grammar)) => Ok(Form::Grammar(grammar.clone())),
        ("json_object", _, None) => Ok(Form::Json),
        ("json_schema", Some(JsonSchema { schema }), None) => match schema.ebnf() {
            Ok(grammar) => Ok(Form::Grammar(grammar)),
            Err(error) => bad(error.to_string()),
        },
        ("json_schema", None, None) => bad("json_schema.schema is missing".into()),
        ("json_object" | "json_schema", _, Some(_)) => {
            Err(Refusal::bad("grammar", format!("give a grammar or {kind}, not both")))
        }
        (other, ..) => {
            bad(format!("{other:?} is not supported; use text, json_object, json_schema, or a grammar"))
        }
    }
}

fn messages(raw: Vec<RawMessage>) -> Result<Vec<Message>, Refusal> {
    if raw.is_empty() || raw.len() > limits::GLM_MESSAGES_MAX {
        let message = format!("send 1 to {} messages", limits::GLM_MESSAGES_MAX);
        return Err(Refusal::bad("messages", message));
    }
    let message = |raw: RawMessage| {
        let role = match raw.role.as_str() {
            "developer" => Some(Role::System),
            name => Role::from_name(name),
        };
        let role = role.ok_or_else(|| {
            Refusal::bad(
                "messages",
                format!("the role {:?} is not supported; use system, user, assistant", raw.role),
            )
        })?;
        let content = match raw.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => {
                if let Some(part) = parts.iter().find(|part| part.kind != "text") {
                    let message = format!("content of type {:?} is not supported; send text", part.kind);
                    return Err(Refusal::bad("messages", message));
                }
                parts.into_iter().filter_map(|part| part.text).collect()
            }
        };
        Ok(Message { role, content })
    };
    raw.into_iter().map(message).collect()
}

/// What every object of one answer says.
struct Head {
    id: String,
    created: i64,
    model: String,
}

impl Head {
    fn value(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices,
        })
    }

    fn chunk(&self, delta: &Value, finish_reason: Option<&str>) -> Value {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish_reason });
        self.value("chat.completion.chunk", json!([choice]))
    }
}

async fn whole(head: &Head, listening: Listening) -> Response {
    match listening.all().await {
        Ok((text, why, usage)) => {
            let message = json!({ "role": "assistant", "content": text });
            let choice = json!({ "index": 0, "message": message, "finish_reason": finish_reason(&why) });
            let mut value = head.value("chat.completion", json!([choice]));
            value["usage"] = usage_value(&usage);
            Response::json(&value)
        }
        Err(unheard) => unheard_response(&unheard),
    }
}

/// Server-sent events; what fails before the first piece fails as a whole.
async fn pieces(head: Head, mut listening: Listening, include_usage: bool) -> Response {
    let first = match listening.next().await {
        Some(Said::End { why: End::Failed(reason), .. }) => {
            return unheard_response(&Unheard::Failed(reason));
        }
        Some(Said::End { why: End::Refused(reason), .. }) => {
            return unheard_response(&Unheard::Refused(reason));
        }
        None => return unheard_response(&Unheard::Failed(GONE.into())),
        Some(said) => said,
    };
    Response::pieces("text/event-stream", events(head, first, listening, include_usage))
}

fn events(
    head: Head,
    first: Said,
    listening: Listening,
    include_usage: bool,
) -> impl Stream<Item = Vec<u8>> + Send + 'static {
    let opening = event(&head.chunk(&json!({ "role": "assistant", "content": "" }), None));
    let next = Some((Some(first), listening, head));
    let rest = stream::unfold(next, move |state| async move {
        let (said, mut listening, head) = state?;
        let said = match said {
            Some(said) => Some(said),
            None => listening.next().await,
        };
        match said {
            Some(Said::Text(text)) => {
                let bytes = event(&head.chunk(&json!({ "content": text }), None));
                Some((bytes, Some((None, listening, head))))
            }
            Some(Said::End { why, usage }) => Some((ending(&head, &why, &usage, include_usage), None)),
            None => Some((failure(GONE), None)),
        }
    });
    stream::StreamExt::chain(stream::once(opening), rest)
}

fn ending(head: &Head, why: &End, usage: &Usage, include_usage: bool) -> Vec<u8> {
    if let End::Failed(reason) | End::Refused(reason) = why {
        return failure(reason);
    }
    let mut bytes = event(&head.chunk(&json!({}), Some(finish_reason(why))));
    if include_usage {
        let mut value = head.value("chat.completion.chunk", json!([]));
        value["usage"] = usage_value(usage);
        bytes.extend(event(&value));
    }
    bytes.extend(b"data: [DONE]\n\n");
    bytes
}

fn failure(reason: &str) -> Vec<u8> {
    let refusal =
        Refusal { status: 500, kind: "server_error", param: None, code: None, message: reason.to_owned() };
    event(&refusal.value())
}

fn event(value: &Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}

fn finish_reason(why: &End) -> &'static str {
    match why {
        End::Stop => "stop",
        _ => "length",
    }
}

fn usage_value(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.answer_tokens,
        "total_tokens": usage.prompt_tokens.saturating_add(usage.answer_tokens),
        "prompt_tokens_details": { "cached_tokens": usage.cached_tokens },
    })
}

fn unheard_response(unheard: &Unheard) -> Response {
    let (status, kind) = match unheard {
        Unheard::Busy => (429, "rate_limit_error"),
        Unheard::Refused(_) => (400, "invalid_request_error"),
        Unheard::NoModel => (404, "invalid_request_error"),
        Unheard::Failed(_) => (503, "server_error"),
    };
    Refusal { status, kind, param: None, code: None, message: unheard.to_string() }.into()
}

/// Seconds since 1970.
fn created() -> i64 {
    clock::wall().0.div_euclid(1_000_000)
}

/// Keys of OpenAI's API and of llama.cpp's server that are about accounts, caches and times, and not about the answer.
const WITHOUT_EFFECT: &[&str] = &[
    "cache_prompt",
    "id_slot",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "timings_per_token",
    "user",
];
/// What is not done here, and is not asked for with false, `none` or `auto`. Of other keys that may be the opposite of what they
/// are without: `do_sample = false` means the likeliest token.
const SWITCHED_OFF: &[&str] = &[
    "echo",
    "function_call",
    "ignore_eos",
    "logprobs",
    "modalities",
    "reasoning_effort",
    "tool_choice",
    "use_beam_search",
    "verbosity",
    "web_search_options",
];
const GONE: &str = "the language model's thread has ended; see the agent's log";
/// A little less than the page gives a slow answer, so that what there is still arrives.
const ANSWER_TIME: Duration = Duration::from_secs(limits::HTTP_SLOW_S_MAX - 10);

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(more: &str) -> Result<Asked, Refusal> {
        let body = format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]{more}}}");
        parse(body.as_bytes(), "tiny")
    }

    #[test]
    fn what_the_api_knows_is_understood() {
        let asked = asked(
            ",\"model\":\"tiny\",\"max_tokens\":7,\"temperature\":0.5,\"top_p\":0,\"seed\":-1,\"stop\":\"END\",\"stream\":true,\
             \"stream_options\":{\"include_usage\":true},\"response_format\":{\"type\":\"json_object\"},\"user\":\"me\"",
        )
        .unwrap();
        let talk = asked.talk;
        assert_eq!((talk.tokens_max, talk.sampling.temperature, talk.sampling.seed), (7, 0.5, u64::MAX));
        assert!(talk.sampling.top_p > 0.0 && talk.sampling.check().is_ok());
        assert_eq!((talk.stops, talk.form), (vec!["END".to_owned()], Form::Json));
        assert!(asked.stream && asked.include_usage);
    }

    #[test]
    fn what_would_change_the_answer_and_is_not_understood_is_refused_by_name() {
        for (more, param, status) in [
            (",\"n\":2", "n", 400),
            (",\"tools\":[{}]", "tools", 400),
            (",\"tool_choice\":\"required\"", "tool_choice", 400),
            (",\"functions\":[{\"name\":\"f\"}]", "functions", 400),
            (",\"logit_bias\":{\"7\":-100}", "logit_bias", 400),
            (",\"logprobs\":true", "logprobs", 400),
            (",\"typical_p\":0.5", "typical_p", 400),
            (",\"repetition_penalty\":99", "repeat_penalty", 400),
            (",\"temperature\":3", "temperature", 400),
            (",\"top_p\":-0.1", "top_p", 400),
            (",\"max_tokens\":0", "max_tokens", 400),
            (",\"presence_penalty\":1", "presence_penalty", 400),
            (",\"response_format\":{\"type\":\"json_schema\"}", "response_format", 400),
            (",\"response_format\":{\"type\":\"xml\"}", "response_format", 400),
            (
                ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"maximum\":3}}}",
                "response_format",
                400,
            ),
            (",\"model\":\"gpt-9\"", "model", 404),
        ] {
            let refusal = asked(more).unwrap_err();
            let told = (refusal.param.as_deref(), refusal.status);
            assert_eq!(told, (Some(param), status), "{more}: {refusal:?}");
            let error = &refusal.value()["error"];
            assert!(error["message"].is_string() && error["type"].is_string(), "{error}");
        }
        assert_eq!(asked(",\"temperature\":\"hot\"").unwrap_err().status, 400);
    }

    #[test]
    fn what_can_not_change_the_answer_is_no_reason_to_refuse_it() {
        let more = ",\"user\":\"me\",\"service_tier\":\"flex\",\"metadata\":{\"a\":\"b\"},\"store\":true,\"cache_prompt\":true,\
                    \"tools\":[],\"tool_choice\":\"none\",\"function_call\":\"auto\",\"logit_bias\":{},\"logprobs\":false,\
                    \"typical_p\":null,\"repetition_penalty\":1.1";
        assert_eq!(asked(more).unwrap().talk.sampling.repetition_penalty, 1.1);
    }

    #[test]
    fn messages_come_as_text_or_in_parts_and_from_known_roles() {
        let of = |messages: &str| {
            parse(format!("{{\"messages\":{messages}}}").as_bytes(), "tiny").map(|a| a.talk.messages)
        };
        let parts = of("[{\"role\":\"developer\",\"content\":\"be brief\"},\
              {\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}]");
        let wanted = vec![Message::new(Role::System, "be brief"), Message::new(Role::User, "ab")];
        assert_eq!(parts.unwrap(), wanted);
        for bad in [
            "[]",
            "[{\"role\":\"tool\",\"content\":\"x\"}]",
            "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}}]}]",
        ] {
            assert_eq!(of(bad).unwrap_err().param.as_deref(), Some("messages"), "{bad}");
        }
    }
}
