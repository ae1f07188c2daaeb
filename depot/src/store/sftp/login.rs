//! Logging in to an SSH server: password, key file or agent. Secrets are read once, when the store
//! is opened.

use std::path::{Path, PathBuf};

use chassis::config::{Secret, check_private, read_secret};
use ssh2::{Error, KeyboardInteractivePrompt, Prompt, Session};

use super::{SftpConfig, StoreError, failure};

/// How to log in.
pub(super) enum Login {
    Password(Secret),
    Key {
        file: PathBuf,
        passphrase: Option<Secret>,
    },
    /// The agent's socket, if it is not that of the environment.
    Agent(Option<PathBuf>),
}

impl Login {
    pub fn load(config: &SftpConfig) -> Result<Self, StoreError> {
        let secret = |path: &Path| read_secret(path).map_err(|e| StoreError::from_config(&e));
        match (&config.password_file, &config.key_file, config.agent) {
            (Some(file), None, false) => Ok(Self::Password(secret(file)?)),
            (None, Some(file), false) => {
                check_private(file).map_err(|error| StoreError::from_config(&error))?;
                let passphrase = config.passphrase_file.as_deref().map(secret).transpose()?;
                Ok(Self::Key { file: file.clone(), passphrase })
            }
            (None, None, true) => Ok(Self::Agent(config.agent_socket.clone())),
            _ => Err(StoreError::setup(
                format!("no single way to log in to {}", config.host),
                "set exactly one of password-file, key-file and agent = true",
            )),
        }
    }

    /// Logs in. The host key must have been checked: a password is sent.
    pub fn perform(&self, session: &Session, config: &SftpConfig) -> Result<(), StoreError> {
        let user = &config.user;
        // This asks with the method "none", which a server may even accept.
        let methods = session.auth_methods(user).map(str::to_owned);
        let methods = methods.map_err(|error| self.refused(config, "", error))?;
        let done = match self {
            Self::Password(password) => by_password(session, user, password, &methods),
            Self::Key { file, passphrase } => {
                let passphrase = passphrase.as_ref().map(Secret::expose);
                session.userauth_pubkey_file(user, None, file, passphrase)
            }
            Self::Agent(socket) => by_agent(session, user, socket.as_deref()),
        };
        done.map_err(|error| self.refused(config, &methods, error))
    }

    fn refused(&self, config: &SftpConfig, methods: &str, error: Error) -> StoreError {
        let SftpConfig { host, user, .. } = config;
        if !failure::is_login_refused(&error) {
            return StoreError::unreachable(format!("log in to {host} as {user}"), error);
        }
        let (means, hint) = match self {
            Self::Password(_) => ("the password", "check user and password-file"),
            Self::Key { .. } => {
                ("the key", "check key-file and passphrase-file, and authorized_keys on the server")
            }
            Self::Agent(_) => ("the agent's keys", "see `ssh-add -l`, and authorized_keys there"),
        };
        StoreError::refused(
            format!("{host} does not let {user} in with {means}: {}", error.message()),
            format!("{hint}; the server accepts: {methods}"),
        )
    }
}

/// Servers with PAM often know only the second method; it is the same password.
fn by_password(
    session: &Session,
    user: &str,
    password: &Secret,
    methods: &str,
) -> Result<(), Error> {
    let offers = |method| methods.split(',').any(|offered| offered == method);
    if offers("password") || !offers("keyboard-interactive") {
        return session.userauth_password(user, password.expose());
    }
    session.userauth_keyboard_interactive(user, &mut Answer(password))
}

/// Answers whatever is asked with the password.
struct Answer<'a>(&'a Secret);

impl KeyboardInteractivePrompt for Answer<'_> {
    fn prompt(&mut self, _: &str, _: &str, prompts: &[Prompt<'_>]) -> Vec<String> {
        prompts.iter().map(|_| self.0.expose().to_owned()).collect()
    }
}

/// Tries the agent's keys one by one.
fn by_agent(session: &Session, user: &str, socket: Option<&Path>) -> Result<(), Error> {
    let mut agent = session.agent()?;
    if let Some(socket) = socket {
        agent.set_identity_path(socket)?;
    }
    let failed = |what| Error::new(failure::AUTHENTICATION_FAILED, what);
    agent.connect().map_err(|_| failed("no SSH agent answers"))?;
    agent.list_identities()?;
    let mut outcome = Err(failed("the agent holds no keys"));
    for key in agent.identities()? {
        outcome = agent.userauth(user, &key);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
