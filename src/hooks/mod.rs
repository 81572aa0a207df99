//! (temporary)
use serde::{Deserialize, Serialize};
use crate::error::*;
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hook { pub path: std::path::PathBuf, pub args: Vec<String>, pub env: Vec<String>, pub timeout: Option<u64> }
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HooksPlan { pub prestart: Vec<Hook>, pub create_runtime: Vec<Hook>, pub create_container: Vec<Hook>, pub start_container: Vec<Hook>, pub poststart: Vec<Hook>, pub poststop: Vec<Hook> }
impl HooksPlan {
 pub fn run_inside(&self) -> bool { !self.create_container.is_empty() || !self.start_container.is_empty() }
 pub fn run_on_host_at_create(&self) -> bool { !self.prestart.is_empty() || !self.create_runtime.is_empty() }
 pub fn describe(&self) -> Vec<String> { vec![] }
}
pub fn plan(_h: &oci_spec::runtime::Hooks, _f: &mut Faults) -> HooksPlan { HooksPlan::default() }
pub fn run(_kind: &str, _hooks: &[Hook], _state: &[u8], _cwd: Option<&std::path::Path>) -> Result<()> { Ok(()) }
pub fn state_json(state: &oci_spec::runtime::State, pid: i32, status: &str) -> Result<Vec<u8>> {
    let mut value = serde_json::to_value(state).map_err(|e| Error::system(e.to_string()))?;
    value["pid"] = pid.into(); value["status"] = status.into();
    serde_json::to_vec(&value).map_err(|e| Error::system(e.to_string()))
}
