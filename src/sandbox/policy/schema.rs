//! The JSON Schema of policy files.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{Amount, Policy, Rlimit};

impl Policy {
    /// The JSON Schema (draft 2020-12) of a policy file.
    ///
    /// ```
    /// let schema = procrt::sandbox::Policy::schema();
    /// assert_eq!(schema.get("title").and_then(|title| title.as_str()), Some("Policy"));
    /// ```
    pub fn schema() -> Schema {
        schemars::schema_for!(Policy)
    }
}

/// A map whose keys are names of resources: what is derived takes any key.
pub(super) fn rlimits(generator: &mut SchemaGenerator) -> Schema {
    let (names, amounts) = (generator.subschema_for::<Rlimit>(), generator.subschema_for::<Amount>());
    json_schema!({"type": "object", "propertyNames": names, "additionalProperties": amounts})
}
