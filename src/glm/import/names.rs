//! Names of modules to roles: transformers' names, wherever they stand (a key of a safetensors file, an initializer, the scope
//! or the name of an ONNX operator), and this project's own.

use super::checkpoint::{LayerRole, Role};

/// The role of a module by a path like `model.layers.3.self_attn.q_proj.weight` or `/model/layers.3/mlp/down_proj/MatMul`.
/// Only the last known module counts, whatever is behind it; `None` where none is known.
pub(super) fn role(path: &str) -> Option<Role> {
    let mut parts = path.split(['.', '/']).peekable();
    let mut layer = None;
    let mut found = None;
    while let Some(part) = parts.next() {
        let number = match part.strip_prefix("layer") {
            Some("s") => parts.peek().and_then(|n| index(n)),
            Some(digits) => index(digits),
            None => None,
        };
        if let Some(n) = number {
            if part == "layers" {
                parts.next();
            }
            (layer, found) = (Some(n), None);
            continue;
        }
        let here = match layer {
            Some(n) => layer_role(part).map(|role| Role::Layer(n, role)),
            None => end_role(part),
        };
        found = here.or(found);
    }
    found
}

/// What transformers calls the tensor of a role.
pub(super) fn of_transformers(role: Role) -> String {
    use LayerRole as L;
    let (n, tensor) = match role {
        Role::Embed => return "model.embed_tokens.weight".to_owned(),
        Role::Norm => return "model.norm.weight".to_owned(),
        Role::Head => return "lm_head.weight".to_owned(),
        Role::Layer(n, role) => (n, role),
    };
    let tensor = match tensor {
        L::AttnNorm => "input_layernorm.weight",
        L::Q => "self_attn.q_proj.weight",
        L::K => "self_attn.k_proj.weight",
        L::V => "self_attn.v_proj.weight",
        L::Qkv => "self_attn.qkv_proj.weight",
        L::QBias => "self_attn.q_proj.bias",
        L::KBias => "self_attn.k_proj.bias",
        L::VBias => "self_attn.v_proj.bias",
        L::QkvBias => "self_attn.qkv_proj.bias",
        L::O => "self_attn.o_proj.weight",
        L::PostAttnNorm => "post_self_attn_layernorm.weight",
        L::MlpNorm => "post_attention_layernorm.weight",
        L::Gate => "mlp.gate_proj.weight",
        L::Up => "mlp.up_proj.weight",
        L::GateUp => "mlp.gate_up_proj.weight",
        L::Down => "mlp.down_proj.weight",
        L::PostMlpNorm => "post_mlp_layernorm.weight",
    };
    format!("model.layers.{n}.{tensor}")
}

/// The bias beside a projection.
pub(super) fn bias(role: Role) -> Option<Role> {
    use LayerRole as L;
    let Role::Layer(n, role) = role else { return None };
    let bias = match role {
        L::Q => L::QBias,
        L::K => L::KBias,
        L::V => L::VBias,
        L::Qkv => L::QkvBias,
        _ => return None,
    };
    Some(Role::Layer(n, bias))
}

/// Whether a role is a vector's: a norm or a bias.
pub(super) fn is_norm(role: Role) -> bool {
    use LayerRole as L;
    match role {
        Role::Norm => true,
        Role::Layer(_, role) => matches!(role, L::AttnNorm | L::PostAttnNorm | L::MlpNorm | L::PostMlpNorm),
        _ => false,
    }
}

fn layer_role(module: &str) -> Option<LayerRole> {
    use LayerRole as L;
    Some(match module {
        "input_layernorm" | "norm_attention" => L::AttnNorm,
        "q_proj" | "q" => L::Q,
        "k_proj" | "k" => L::K,
        "v_proj" | "v" => L::V,
        "o_proj" | "o" => L::O,
        "post_self_attn_layernorm" => L::PostAttnNorm,
        "post_attention_layernorm" | "norm_mlp" => L::MlpNorm,
        "gate_proj" | "gate" => L::Gate,
        "up_proj" | "up" => L::Up,
        "gate_up_proj" => L::GateUp,
        "down_proj" | "down" => L::Down,
        "post_mlp_layernorm" => L::PostMlpNorm,
        _ => return None,
    })
}

fn end_role(module: &str) -> Option<Role> {
    Some(match module {
        "embed_tokens" | "embedding" => Role::Embed,
        "norm" | "final_layernorm" => Role::Norm,
        "lm_head" | "logits" => Role::Head,
        _ => return None,
    })
}

fn index(digits: &str) -> Option<usize> {
    // Not what `parse` takes besides, such as a sign; and one spelling per number, or one layer would be there twice.
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|n| plain && *n < crate::limits::GLM_LAYERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_found_in_every_exporters_names() {
        let q = Some(Role::Layer(3, LayerRole::Q));
        for path in [
            "model.layers.3.self_attn.q_proj.weight",
            "m.model.layers.3.self_attn.q_proj",
            "/model/layers.3/self_attn/q_proj/MatMul",
            "layer3.q.weight.codes",
        ] {
            assert_eq!(role(path), q, "{path}");
        }
        assert_eq!(role("embedding.codes"), Some(Role::Embed));
        assert_eq!(role("m.model.norm"), Some(Role::Norm));
        assert_eq!(role("model.norm.weight"), Some(Role::Norm));
        assert_eq!(role("m.lm_head"), Some(Role::Head));
        for path in [
            "model.layers.x.q_proj",
            "model.layers.-1.q_proj",
            "layers.99999.q_proj",
            "model.layers.03.q_proj",
        ] {
            assert!(!matches!(role(path), Some(Role::Layer(..))), "{path}");
        }
        assert_eq!(role("model.rotary_emb.inv_freq"), None);
    }

    #[test]
    fn the_names_we_ask_for_are_names_we_know() {
        let Some(Role::Layer(7, found)) = role(&of_transformers(Role::Layer(7, LayerRole::MlpNorm))) else {
            panic!("no layer")
        };
        assert_eq!(found, LayerRole::MlpNorm);
        for end in [Role::Embed, Role::Norm, Role::Head] {
            assert_eq!(role(&of_transformers(end)), Some(end));
        }
    }
}
