//! The container's state as hooks are given it.

use oci_spec::runtime::{ContainerState, State};

use crate::error::{Error, Result};

/// `state` with the status of the moment and the first process's pid, 0 for none, as JSON (runtime.md, "State").
///
/// # Errors
/// None that a state can cause.
pub fn state_json(state: &State, pid: i32, status: ContainerState) -> Result<Vec<u8>> {
    let mut state = state.clone();
    state.set_status(status);
    state.set_pid((pid > 0).then_some(pid));
    serde_json::to_vec(&state)
        .map_err(|error| Error::system(format!("write the container's state for its hooks: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_has_the_status_and_pid_of_the_moment() {
        let mut state = State::default();
        state.set_id("x".to_owned());
        let json = |pid, status| -> serde_json::Value {
            serde_json::from_slice(&state_json(&state, pid, status).unwrap()).unwrap()
        };
        let creating = json(7, ContainerState::Creating);
        let seen = (creating["id"].as_str(), creating["pid"].as_i64(), creating["status"].as_str());
        assert_eq!(seen, (Some("x"), Some(7), Some("creating")));
        assert!(json(0, ContainerState::Stopped).get("pid").is_none());
    }
}
