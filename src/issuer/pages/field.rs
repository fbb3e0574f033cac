//! One field of a form: its label, its rule, and beside it what is wrong with what was written.

use askama::Template;

/// Renders itself into the form of another template.
#[derive(Clone, Copy, Template)]
#[template(
    ext = "html",
    source = r#"<label for="{{ name }}">{{ label }} <span class="note">({% if !need.is_empty() %}{{ need }}{% else if is_required %}required{% else %}optional{% endif %})</span></label>
<input id="{{ name }}" name="{{ name }}" type="{{ kind }}" value="{{ value }}" autocomplete="{{ autocomplete }}" maxlength="{{ longest }}"
{%- if shortest > 0 %} minlength="{{ shortest }}"{% endif %}{% if is_literal %} autocapitalize="none" spellcheck="false"{% endif %}
{%- if is_required %} required{% endif %}{% if is_first %} autofocus{% endif %}{% if complaint.is_some() %} aria-invalid="true"{% endif %}
{%- if complaint.is_some() %} aria-describedby="{{ name }}-wrong{% if !hint.is_empty() %} {{ name }}-hint{% endif %}"
{%- else if !hint.is_empty() %} aria-describedby="{{ name }}-hint"{% endif %}>
{% if let Some(complaint) = complaint %}<p class="wrong" id="{{ name }}-wrong">{{ complaint }}</p>{% endif %}
{% if !hint.is_empty() %}<p class="hint" id="{{ name }}-hint">{{ hint }}</p>{% endif %}
"#
)]
pub(super) struct Field<'a> {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) kind: &'static str,
    /// What was written already; of a password nothing.
    pub(super) value: &'a str,
    pub(super) autocomplete: &'static str,
    pub(super) shortest: usize,
    pub(super) longest: usize,
    /// Whether it is no sentence: nothing is put right in it while it is typed.
    pub(super) is_literal: bool,
    pub(super) is_required: bool,
    /// When it is needed, where that is neither always nor never.
    pub(super) need: &'static str,
    /// Whether the page begins here.
    pub(super) is_first: bool,
    pub(super) hint: &'a str,
    pub(super) complaint: Option<&'a str>,
}

impl Default for Field<'_> {
    fn default() -> Self {
        Self {
            name: "",
            label: "",
            kind: "text",
            value: "",
            autocomplete: "off",
            shortest: 0,
            longest: 255,
            is_literal: false,
            is_required: false,
            need: "",
            is_first: false,
            hint: "",
            complaint: None,
        }
    }
}
