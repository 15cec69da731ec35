use std::borrow::Cow;

use super::super::yaml::Node;
use super::Conform;

/// Is the type of a value: what may be written, and the one form it is turned into.
pub(in super::super) enum Kind {
    /// Anything, left as it is.
    Any,
    /// A string.
    Str,
    /// A string or a number; becomes a string.
    Text,
    /// `true` or `false`, also as a string.
    Bool,
    /// A whole number within bounds, also as a string.
    Int(i64, i64),
    /// A number, also as a string.
    Number,
    /// A number of bytes, `512m`; becomes a whole number. -1 only where the flag says so.
    Bytes(bool),
    /// `1m30s`; stays a string.
    Duration,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list.
    List(&'static Kind),
    /// One value or a list of them; becomes a list.
    OneOrMore(&'static Kind),
    /// A mapping with keys of the user's.
    Dict(&'static Kind),
    /// A mapping whose keys name objects (`services`, `volumes`).
    Named(&'static str, &'static Kind),
    /// A list of names, or a mapping from name to this; a list becomes a mapping to what the function makes of each item.
    Names(fn(&Node) -> Node, &'static Kind),
    /// A mapping of scalars or a list of `KEY=VALUE`; becomes a mapping to strings, or to null where there is no value.
    Pairs,
    /// As `Pairs`, but a missing value is an empty string (`labels`).
    Labels,
    /// Permission bits; a string is octal. Printed as octal where the flag says so.
    Mode(bool),
    /// `extra_hosts`; becomes a list of `NAME=ADDRESS`.
    Hosts,
    /// A string, split as a shell does, or a list of strings, or null; becomes a list or null.
    Command,
    /// A mapping with these keys and no others.
    Object(&'static Table),
    /// This or null.
    OrNull(&'static Kind),
    /// A scalar that the function turns into the long form, or the long form.
    Short(&'static str, fn(&Node, &mut Conform<'_>) -> Option<Node>, &'static Kind),
    /// A list whose scalars the function turns into long forms, several of one perhaps.
    ShortList(&'static str, fn(&Node, &mut Conform<'_>) -> Option<Vec<Node>>, &'static Kind),
    /// The first kind if the value is a scalar, else the second.
    Either(&'static Kind, &'static Kind),
}

impl Kind {
    /// Says what may be written, to go after "must be".
    pub(in super::super) fn expected(&self) -> Cow<'static, str> {
        match self {
            Self::Any => "anything".into(),
            Self::Str => "a string".into(),
            Self::Text => "a string or a number".into(),
            Self::Bool => "a boolean (`true` or `false`)".into(),
            Self::Int(i64::MIN, _) => "a whole number".into(),
            Self::Int(min, i64::MAX) => format!("a whole number, {min} or more").into(),
            Self::Int(min, max) => format!("a whole number from {min} to {max}").into(),
            Self::Number => "a number".into(),
            Self::Bytes(_) => "a size in bytes (`512m`)".into(),
            Self::Duration => "a duration (`1m30s`)".into(),
            Self::Word(words) => format!("one of {}", super::super::diagnostic::listed(words)).into(),
            Self::List(Self::Str | Self::Text) => "a list of strings".into(),
            Self::List(_) => "a list".into(),
            Self::OneOrMore(_) => "a string or a list".into(),
            Self::Dict(_) | Self::Named(..) | Self::Object(_) => "a mapping".into(),
            Self::Names(..) => "a list of names or a mapping".into(),
            Self::Mode(_) => "permission bits (`0440`)".into(),
            Self::Pairs | Self::Labels => "a mapping or a list of `KEY=VALUE`".into(),
            Self::Hosts => "a list of `NAME=ADDRESS` or a mapping".into(),
            Self::Command => "a string or a list of strings".into(),
            Self::OrNull(kind) => format!("{} or null", kind.expected()).into(),
            Self::Short(form, ..) => format!("{form} or a mapping").into(),
            Self::ShortList(form, ..) => format!("a list; its items are {form} or mappings").into(),
            Self::Either(one, other) => format!("{} or {}", one.expected(), other.expected()).into(),
        }
    }
}

/// Says what mydocker does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Support {
    /// Does what the compose-spec says.
    Acts,
    /// Has nothing to do here: it concerns images, builds, swarm or other platforms.
    Silent,
    /// Leaves it out and says so once.
    Ignored,
    /// Refuses it, because leaving it out would change security or data.
    Refused {
        /// What would be different.
        because: &'static str,
        /// Values that ask for nothing.
        unless: &'static [&'static str],
    },
}

/// Says how a value of a later file joins one of an earlier.
#[derive(Clone, Copy)]
pub(in super::super) enum Merge {
    /// Mappings key by key, lists one after the other, scalars replaced.
    Deep,
    /// The later one takes its place.
    Replace,
    /// Lists joined; an item with the same key as an earlier one takes its place.
    Unique(fn(&Node) -> String),
    /// Key by key if both name the same driver, else replaced.
    SameDriver,
}

/// Is one key of a mapping.
#[derive(Clone, Copy)]
pub(in super::super) struct Field {
    /// The key.
    pub(in super::super) name: &'static str,
    /// Its type.
    pub(in super::super) kind: &'static Kind,
    /// What mydocker does with it.
    pub(in super::super) support: Support,
    /// How it is merged.
    pub(in super::super) merge: Merge,
    /// How it is written.
    pub(in super::super) example: Option<&'static str>,
    /// `config` prints it also when it is zero, false or empty.
    pub(in super::super) print_zero: bool,
}

/// Makes a field that is acted on and merged deeply.
pub(super) const fn field(name: &'static str, kind: &'static Kind) -> Field {
    Field { name, kind, support: Support::Acts, merge: Merge::Deep, example: None, print_zero: false }
}

impl Field {
    /// Has nothing to do here.
    pub(super) const fn silent(mut self) -> Self {
        self.support = Support::Silent;
        self
    }

    /// Leaves it out with a warning.
    pub(super) const fn ignored(mut self) -> Self {
        self.support = Support::Ignored;
        self
    }

    /// Refuses it.
    pub(super) const fn refused(mut self, because: &'static str) -> Self {
        self.support = Support::Refused { because, unless: &[] };
        self
    }

    /// Refuses it but for these values.
    pub(super) const fn refused_unless(mut self, because: &'static str, unless: &'static [&'static str]) -> Self {
        self.support = Support::Refused { because, unless };
        self
    }

    /// Merges it in its own way.
    pub(super) const fn merged(mut self, merge: Merge) -> Self {
        self.merge = merge;
        self
    }

    /// Shows how it is written.
    pub(super) const fn example(mut self, example: &'static str) -> Self {
        self.example = Some(example);
        self
    }

    /// Is printed also when it is zero.
    pub(super) const fn print_zero(mut self) -> Self {
        self.print_zero = true;
        self
    }
}

/// Is a set of keys.
pub(in super::super) struct Table {
    /// What has these keys, with its article: "a service".
    pub(in super::super) what: &'static str,
    /// The keys.
    pub(in super::super) fields: &'static [Field],
    /// Lets `x-*` keys pass.
    pub(in super::super) extensions: bool,
    /// Keys without which the mapping means nothing; looked at after the merge.
    pub(in super::super) required: &'static [&'static str],
}

impl Table {
    /// Finds a key.
    pub(in super::super) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// Makes a table that lets extensions pass.
pub(super) const fn table(what: &'static str, fields: &'static [Field]) -> Table {
    Table { what, fields, extensions: true, required: &[] }
}

impl Table {
    /// Names the keys that must be there.
    pub(super) const fn required(mut self, keys: &'static [&'static str]) -> Self {
        self.required = keys;
        self
    }

    /// Lets no extensions pass.
    pub(super) const fn closed(mut self) -> Self {
        self.extensions = false;
        self
    }
}

/// A string.
pub(super) static STR: Kind = Kind::Str;
/// A string or number.
pub(super) static TEXT: Kind = Kind::Text;
/// A boolean.
pub(super) static BOOL: Kind = Kind::Bool;
/// Any whole number.
pub(super) static INT: Kind = Kind::Int(i64::MIN, i64::MAX);
/// A whole number from 0 on.
pub(super) static COUNT: Kind = Kind::Int(0, i64::MAX);
/// A number.
pub(super) static NUMBER: Kind = Kind::Number;
/// A size.
pub(super) static BYTES: Kind = Kind::Bytes(false);
/// A duration.
pub(super) static DURATION: Kind = Kind::Duration;
/// Pairs.
pub(super) static PAIRS: Kind = Kind::Pairs;
/// Pairs without nulls.
pub(super) static LABELS: Kind = Kind::Labels;
/// A command.
pub(super) static COMMAND: Kind = Kind::Command;
/// A list of strings.
pub(super) static STRINGS: Kind = Kind::List(&STR);
/// A list of strings or numbers.
pub(super) static TEXTS: Kind = Kind::List(&TEXT);
/// A string or a list of them.
pub(super) static STRING_OR_LIST: Kind = Kind::OneOrMore(&STR);
/// Options of a driver.
pub(super) static OPTIONS: Kind = Kind::Dict(&TEXT);
/// Anything.
pub(super) static ANY: Kind = Kind::Any;

/// The key of an item that is itself text.
pub(super) fn own_text(node: &Node) -> String {
    node.value.scalar_text().unwrap_or_default()
}

/// Lists joined, each text once.
pub(super) const DISTINCT: Merge = Merge::Unique(own_text);
