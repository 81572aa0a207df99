//! The JSON Schema of policy files.

use schemars::Schema;

use super::Policy;

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
