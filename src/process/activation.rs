//! What a service manager passes on to a container's process: sockets that it has opened (sd_listen_fds(3)), and where to
//! say that the service is ready (sd_notify(3)).

use serde::Serialize;

use super::{ProcessPlan, set_variable};

/// What the container's first process is told of its service manager. Processes that join later are told nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Activation {
    /// How many sockets it gets, from descriptor 3 on (`LISTEN_FDS`).
    pub sockets: u32,
    /// Their names, apart by colons (`LISTEN_FDNAMES`).
    pub socket_names: Option<String>,
    /// The path of the socket for its messages, inside the container (`NOTIFY_SOCKET`).
    pub notify_socket: Option<String>,
}

impl Activation {
    /// The plan of the process with the variables that tell it. `pid` is its own, as it sees it: the sockets are that
    /// process's and nobody else's.
    #[must_use]
    pub fn told(&self, process: &ProcessPlan, pid: u32) -> ProcessPlan {
        let mut process = process.clone();
        for variable in self.variables(pid) {
            set_variable(&mut process.env, &variable);
        }
        process
    }

    fn variables(&self, pid: u32) -> Vec<String> {
        let mut variables = Vec::new();
        if self.sockets > 0 {
            variables.push(format!("LISTEN_FDS={}", self.sockets));
            variables.push(format!("LISTEN_PID={pid}"));
            variables.extend(self.socket_names.iter().map(|names| format!("LISTEN_FDNAMES={names}")));
        }
        variables.extend(self.notify_socket.iter().map(|path| format!("NOTIFY_SOCKET={path}")));
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_configuration_give_way_to_those_of_the_service_manager() {
        let process = ProcessPlan { env: vec!["LISTEN_FDS=9".into(), "A=b".into()], ..ProcessPlan::default() };
        let activation = Activation { sockets: 2, socket_names: Some("a:b".into()), notify_socket: None };
        assert_eq!(activation.told(&process, 1).env, ["A=b", "LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=a:b"]);
    }

    #[test]
    fn without_sockets_there_is_no_word_of_them() {
        let activation = Activation { notify_socket: Some("/run/notify/notify.sock".into()), ..Activation::default() };
        let told = activation.told(&ProcessPlan::default(), 1);
        assert_eq!(told.env, ["NOTIFY_SOCKET=/run/notify/notify.sock"]);
    }
}
