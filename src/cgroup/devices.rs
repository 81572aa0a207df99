//! `linux.resources.devices`: the rules, and what they come to.
//!
//! The rules stand in order and the last one that matches an access decides. As in runc, a container begins with
//! nothing allowed, and the devices that every container needs are allowed after its own rules. Unlike in runc, they do
//! not override a denial in a list that allows everything (`{"allow": true, "type": "a"}`, a privileged container).

use std::fmt::{self, Display};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use serde::Serialize;

use crate::error::Faults;

/// The kind of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A block device.
    Block,
    /// A character device.
    Char,
}

/// What is done to a device, as the bits of the kernel's `BPF_DEVCG_ACC_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Access(pub u8);

impl Access {
    /// Making its node.
    pub const MKNOD: Self = Self(1);
    /// Reading it.
    pub const READ: Self = Self(2);
    /// Writing it.
    pub const WRITE: Self = Self(4);
    /// All of them.
    pub const ALL: Self = Self(7);

    fn parse(text: &str) -> Option<Self> {
        let bits = text.chars().try_fold(0, |bits, letter| match letter {
            'r' => Some(bits | Self::READ.0),
            'w' => Some(bits | Self::WRITE.0),
            'm' => Some(bits | Self::MKNOD.0),
            _ => None,
        });
        bits.map(Self)
    }
}

/// One rule on some devices; `None` for a number stands for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DeviceRule {
    /// Whether the access is allowed or refused.
    pub allow: bool,
    /// Block or character.
    pub kind: DeviceKind,
    /// The major number.
    pub major: Option<u32>,
    /// The minor number.
    pub minor: Option<u32>,
    /// The accesses that the rule is about.
    pub access: Access,
}

impl DeviceRule {
    const fn allow(kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: Access) -> Self {
        Self { allow: true, kind, major, minor, access }
    }

    /// Whether every device of `other` is one of this rule's.
    fn covers(&self, other: &Self) -> bool {
        let includes = |mine: Option<u32>, theirs| mine.is_none() || mine == theirs;
        self.kind == other.kind && includes(self.major, other.major) && includes(self.minor, other.minor)
    }

    /// Whether some device is both this rule's and `other`'s.
    fn meets(&self, other: &Self) -> bool {
        let common = |mine: Option<u32>, theirs: Option<u32>| mine.is_none() || theirs.is_none() || mine == theirs;
        self.kind == other.kind && common(self.major, other.major) && common(self.minor, other.minor)
    }
}

/// As `devices.allow` and `devices.deny` of version 1 take it: `c 136:* rwm`.
impl Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.kind == DeviceKind::Block { "b " } else { "c " })?;
        match self.major {
            Some(major) => write!(f, "{major}:")?,
            None => f.write_str("*:")?,
        }
        match self.minor {
            Some(minor) => write!(f, "{minor} ")?,
            None => f.write_str("* ")?,
        }
        for (letter, bits) in [('r', Access::READ), ('w', Access::WRITE), ('m', Access::MKNOD)] {
            if self.access.0 & bits.0 != 0 {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// What every container may do (runc's list): make any node, and use the standard devices, terminals and `/dev/net/tun`.
const STANDARD: [DeviceRule; 11] = {
    use DeviceKind::{Block, Char};
    [
        DeviceRule::allow(Char, None, None, Access::MKNOD),
        DeviceRule::allow(Block, None, None, Access::MKNOD),
        DeviceRule::allow(Char, Some(1), Some(3), Access::ALL),
        DeviceRule::allow(Char, Some(1), Some(5), Access::ALL),
        DeviceRule::allow(Char, Some(1), Some(7), Access::ALL),
        DeviceRule::allow(Char, Some(1), Some(8), Access::ALL),
        DeviceRule::allow(Char, Some(1), Some(9), Access::ALL),
        DeviceRule::allow(Char, Some(5), Some(0), Access::ALL),
        DeviceRule::allow(Char, Some(5), Some(2), Access::ALL),
        DeviceRule::allow(Char, Some(10), Some(200), Access::ALL),
        DeviceRule::allow(Char, Some(136), None, Access::ALL),
    ]
};

/// What a container may do with devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DevicePolicy {
    /// What holds where no rule matches.
    pub allow: bool,
    /// The rules, of which the last that matches decides.
    pub rules: Vec<DeviceRule>,
}

impl DevicePolicy {
    /// What the rules of the configuration come to.
    pub fn new(rules: &[LinuxDeviceCgroup], faults: &mut Faults) -> Self {
        let mut policy = Self { allow: false, rules: Vec::with_capacity(rules.len() + STANDARD.len()) };
        for (index, rule) in rules.iter().enumerate() {
            policy.add(rule, &format!("linux.resources.devices[{index}]"), faults);
        }
        if !policy.allow {
            policy.rules.extend(STANDARD);
        }
        policy
    }

    /// Whether everything is allowed.
    pub fn allows_all(&self) -> bool {
        self.allow && self.rules.iter().all(|rule| rule.allow)
    }

    fn add(&mut self, rule: &LinuxDeviceCgroup, path: &str, faults: &mut Faults) {
        let major = number(rule.major(), path, "major", faults);
        let minor = number(rule.minor(), path, "minor", faults);
        let access = match rule.access().as_deref() {
            None | Some("") => Some(Access::ALL),
            Some(text) => Access::parse(text),
        };
        let Some(access) = access else {
            let text = rule.access().as_deref().unwrap_or_default();
            faults.add(format!("{path}.access"), format_args!("{text:?} is not made of \"r\", \"w\" and \"m\""));
            return;
        };
        let kind = match rule.typ().unwrap_or_default() {
            LinuxDeviceType::B => DeviceKind::Block,
            LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char,
            LinuxDeviceType::P => {
                faults.add(format!("{path}.type"), "\"p\" is a FIFO, which is no device to allow or deny");
                return;
            }
            LinuxDeviceType::A => {
                // The kernel's "a" is everything, whatever else the rule says: what says less is not what is meant.
                if major.is_some() || minor.is_some() || access != Access::ALL {
                    faults
                        .add(path, "type \"a\" is every access to every device, and takes no numbers or fewer rights");
                }
                *self = Self { allow: rule.allow(), rules: std::mem::take(&mut self.rules) };
                self.rules.clear();
                return;
            }
        };
        self.rules.push(DeviceRule { allow: rule.allow(), kind, major, minor, access });
    }

    /// The same policy as version 1 can say it: a default, and exceptions from it whose order means nothing.
    ///
    /// # Errors
    /// Two rules, of which the later takes a part out of what the earlier says of many devices: that has no such form.
    pub fn exceptions(&self) -> Result<Vec<DeviceRule>, (DeviceRule, DeviceRule)> {
        let mut exceptions: Vec<DeviceRule> = Vec::with_capacity(self.rules.len());
        for rule in &self.rules {
            if rule.allow != self.allow {
                let same = exceptions.iter_mut().find(|e| e.covers(rule) && rule.covers(e));
                match same {
                    Some(same) => same.access.0 |= rule.access.0,
                    None => exceptions.push(*rule),
                }
                continue;
            }
            for exception in &mut exceptions {
                if exception.access.0 & rule.access.0 == 0 || !exception.meets(rule) {
                    continue;
                }
                if !rule.covers(exception) {
                    return Err((*exception, *rule));
                }
                exception.access.0 &= !rule.access.0;
            }
            exceptions.retain(|exception| exception.access.0 != 0);
        }
        Ok(exceptions)
    }
}

/// A device number of a rule: none, or -1 as engines write it, is any.
fn number(value: Option<i64>, path: &str, field: &str, faults: &mut Faults) -> Option<u32> {
    match value {
        None | Some(-1) => None,
        Some(value) => {
            let number = u32::try_from(value).ok();
            if number.is_none() {
                faults.add(format!("{path}.{field}"), format_args!("{value} is not a device number"));
            }
            // A number that is wrong must not stand for any; the fault keeps the plan from being carried out at all.
            number.or(Some(u32::MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> (DevicePolicy, String) {
        let mut faults = Faults::default();
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
        let policy = DevicePolicy::new(&rules, &mut faults);
        (policy, faults.into_result().err().map(|error| error.to_string()).unwrap_or_default())
    }

    fn words(policy: &DevicePolicy) -> Vec<String> {
        policy.exceptions().unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_container_begins_with_the_standard_devices() {
        let (nothing, _) = policy("[]");
        let (denied, faults) = policy(r#"[{"allow": false, "access": "rwm"}]"#);
        assert_eq!((&nothing, faults.as_str()), (&denied, ""));
        assert!(!nothing.allow);
        assert_eq!(words(&nothing)[..3], ["c *:* m", "b *:* m", "c 1:3 rwm"]);
        assert_eq!(words(&nothing).len(), 11);
    }

    #[test]
    fn everything_allowed_is_no_rule_at_all_and_a_denial_in_it_holds() {
        let (all, _) = policy(r#"[{"allow": false, "access": "rwm"}, {"allow": true, "type": "a", "access": "rwm"}]"#);
        assert!(all.allows_all());
        assert_eq!(all.rules, []);
        let (but_null, _) = policy(r#"[{"allow": true}, {"allow": false, "type": "c", "major": 1, "minor": 3}]"#);
        assert!(!but_null.allows_all());
        assert_eq!(words(&but_null), ["c 1:3 rwm"]);
    }

    #[test]
    fn a_later_rule_takes_away_from_earlier_ones() {
        let (policy, _) = policy(
            r#"[{"allow": true, "type": "b", "major": 8, "minor": 1, "access": "rw"},
                {"allow": true, "type": "b", "major": 8, "minor": 1, "access": "m"},
                {"allow": false, "type": "b", "major": 8, "access": "w"}]"#,
        );
        assert!(words(&policy).contains(&"b 8:1 rm".to_owned()), "{:?}", words(&policy));
    }

    #[test]
    fn a_hole_in_a_wildcard_has_no_version_1_form() {
        let (policy, _) = policy(
            r#"[{"allow": true, "type": "c", "major": 10, "minor": -1, "access": "rw"},
                {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "w"}]"#,
        );
        let (wide, hole) = policy.exceptions().unwrap_err();
        assert_eq!((wide.to_string(), hole.to_string()), ("c 10:* rw".into(), "c 10:229 w".into()));
    }

    #[test]
    fn wrong_rules_are_named() {
        let (_, faults) = policy(
            r#"[{"allow": true, "type": "c", "access": "rx"}, {"allow": true, "type": "c", "major": -2},
                {"allow": true, "type": "a", "major": 1}, {"allow": true, "type": "p"}]"#,
        );
        assert_eq!(
            faults,
            "linux.resources.devices[0].access: \"rx\" is not made of \"r\", \"w\" and \"m\"; \
             linux.resources.devices[1].major: -2 is not a device number; \
             linux.resources.devices[2]: type \"a\" is every access to every device, and takes no numbers or fewer rights; \
             linux.resources.devices[3].type: \"p\" is a FIFO, which is no device to allow or deny"
        );
    }
}
