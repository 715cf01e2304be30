// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asking a registry as its rules want it: in somebody's name, where it redirects to, and not too often.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::credentials::Logins;
use super::http::{Answer, Hosts, Peer, Question};
use super::settings::{Endpoint, Places, may_lead_without_tls};
use super::tokens::{self, Challenge};
use super::trouble::Trouble;

/// How many redirects are followed.
const REDIRECTS: usize = 5;
/// How often a registry that asks to wait is asked again.
const PATIENT: usize = 3;
/// The longest wait that is worth it.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// What a registry says of how often it may still be asked (docs.docker.com, "Pull rate limit").
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "assets", derive(schemars::JsonSchema))]
pub struct Quota {
    /// How many pulls it allows.
    pub limit: u64,
    /// How many are left.
    pub remaining: u64,
    /// In how many seconds.
    pub window: u64,
}

/// What there is to ask of a repository.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// What stands behind the repository: `manifests/latest`.
    pub path: &'a str,
    /// Whether only the headers are wanted.
    pub head: bool,
    /// What forms are understood.
    pub accept: Option<&'a str>,
    /// The most bytes that are read.
    pub limit: usize,
}

/// The registries, and what was learnt of them.
pub(super) struct Access {
    hosts: Hosts,
    /// `Authorization`, by host and repository.
    passes: Mutex<HashMap<(String, String), String>>,
    /// What hosts have asked for before they gave anything, so that they need not ask again for the next repository.
    challenges: Mutex<HashMap<String, Challenge>>,
    logins: Logins,
    quotas: Mutex<BTreeMap<String, Quota>>,
    /// Until when a host wants to be left alone.
    resting: Mutex<HashMap<String, Instant>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Access {
    pub(super) fn new(places: Places) -> Self {
        Self {
            hosts: Hosts::new(places.clone()),
            logins: Logins::new(places),
            passes: Mutex::default(),
            challenges: Mutex::default(),
            quotas: Mutex::default(),
            resting: Mutex::default(),
        }
    }

    /// What was said of how often registries may still be asked, by host.
    pub(super) fn quotas(&self) -> BTreeMap<String, Quota> {
        locked(&self.quotas).clone()
    }

    /// Asks `endpoint` for what is `wanted`.
    ///
    /// # Errors
    /// What keeps it from giving an answer of 2xx.
    pub(super) fn ask(&self, endpoint: &Endpoint, wanted: Wanted<'_>, deadline: Instant) -> Result<Answer, Trouble> {
        let peer = self.hosts.peer(&endpoint.host, endpoint.insecure)?;
        let key = (endpoint.host.clone(), endpoint.repository.clone());
        let target = format!("/v2/{}/{}", endpoint.repository, wanted.path);
        let mut has_answered_challenge = false;
        let mut waits = 0;
        loop {
            self.rest(&peer.host, deadline)?;
            let mut pass = locked(&self.passes).get(&key).cloned();
            let known = locked(&self.challenges).get(&peer.host).cloned();
            if let (None, Some(challenge), false) = (&pass, known, has_answered_challenge) {
                // Where it cannot be had, the registry says itself what it wants.
                pass = self.pass(&peer, endpoint, &challenge, deadline).ok();
                locked(&self.passes).extend(pass.clone().map(|pass| (key.clone(), pass)));
            }
            let question = Question {
                target: &target,
                head: wanted.head,
                accept: wanted.accept,
                authorization: pass.as_deref(),
                form: None,
                limit: wanted.limit,
                deadline,
            };
            let asked = peer.ask(&question);
            // A connection that was kept may have been closed in the meantime.
            let answer = match asked {
                Err(Trouble::Unreachable { .. }) if waits == 0 => {
                    waits += 1;
                    peer.ask(&question)?
                }
                asked => asked?,
            };
            self.note_quota(&peer.host, &answer);
            match answer.status {
                200..=299 => return Ok(answer),
                301 | 302 | 303 | 307 | 308 => return self.follow(&peer, endpoint, answer, wanted, deadline),
                401 if !has_answered_challenge => {
                    has_answered_challenge = true;
                    let pass = self.answer_challenge(&peer, endpoint, &answer, deadline)?;
                    locked(&self.passes).insert(key.clone(), pass);
                }
                401 | 403 => {
                    let login = self.logins.find(&endpoint.host, &endpoint.repository);
                    let logged_in = matches!(login, Ok(Some(_)));
                    return Err(Trouble::Denied { host: peer.host.clone(), logged_in });
                }
                404 => return Err(not_found(&peer.host, &answer)),
                429 | 503 if waits < PATIENT => {
                    waits += 1;
                    let asked_for = retry_after(&answer);
                    let wait = asked_for.unwrap_or(Duration::from_secs(1 << waits));
                    if wait > LONGEST_WAIT || Instant::now() + wait >= deadline {
                        return Err(refusal(&peer.host, &answer));
                    }
                    locked(&self.resting).insert(peer.host.clone(), Instant::now() + wait);
                }
                502 | 504 if waits == 0 => {
                    waits += 1;
                    std::thread::sleep(Duration::from_millis(500));
                }
                _ => return Err(refusal(&peer.host, &answer)),
            }
        }
    }

    /// Waits while a host wants to be left alone.
    fn rest(&self, host: &str, deadline: Instant) -> Result<(), Trouble> {
        let until = locked(&self.resting).get(host).copied();
        let Some(left) = until.map(|until| until.saturating_duration_since(Instant::now())) else { return Ok(()) };
        if Instant::now() + left >= deadline {
            return Err(Trouble::TooMany { host: host.to_owned(), wait: Some(left.as_secs()) });
        }
        std::thread::sleep(left);
        Ok(())
    }

    fn answer_challenge(
        &self,
        peer: &Peer,
        endpoint: &Endpoint,
        answer: &Answer,
        deadline: Instant,
    ) -> Result<String, Trouble> {
        let host = || peer.host.clone();
        let Some(challenge) = Challenge::of(answer) else {
            return Err(Trouble::NoRegistry {
                host: host(),
                why: "it wants a login and does not say of what kind".into(),
            });
        };
        let pass = self.pass(peer, endpoint, &challenge, deadline)?;
        locked(&self.challenges).insert(peer.host.clone(), challenge.for_any());
        Ok(pass)
    }

    /// What answers `challenge` of `peer`.
    fn pass(
        &self,
        peer: &Peer,
        endpoint: &Endpoint,
        challenge: &Challenge,
        deadline: Instant,
    ) -> Result<String, Trouble> {
        let untold = |why| Trouble::Login { host: peer.host.clone(), why };
        let login = self.logins.find(&endpoint.host, &endpoint.repository).map_err(untold)?;
        tokens::fetch(&self.hosts, peer, challenge, &endpoint.repository, login.as_ref(), deadline)
    }

    /// Goes where `answer` of `peer` leads. Nothing of a login goes with it, and a further wish for one is not answered.
    fn follow(
        &self,
        peer: &Peer,
        endpoint: &Endpoint,
        mut answer: Answer,
        wanted: Wanted<'_>,
        deadline: Instant,
    ) -> Result<Answer, Trouble> {
        let odd = |host: &str, why: &str| Trouble::NoRegistry { host: host.to_owned(), why: why.to_owned() };
        let mut scheme = if peer.is_plain() { "http" } else { "https" }.to_owned();
        let mut host = peer.host.clone();
        for _ in 0..REDIRECTS {
            let place = answer.header("location").unwrap_or_default().to_owned();
            let target = if let Some((new_scheme, rest)) = place.split_once("://") {
                let at = rest.find(['/', '?']).unwrap_or(rest.len());
                scheme = new_scheme.to_ascii_lowercase();
                rest[..at].clone_into(&mut host);
                if rest[at..].starts_with('/') { rest[at..].to_owned() } else { format!("/{}", &rest[at..]) }
            } else if place.starts_with('/') && !place.starts_with("//") {
                place
            } else {
                return Err(odd(&host, "it redirects to no address"));
            };
            if host.is_empty() || host.contains(['@', '\\', ' ']) || !["http", "https"].contains(&scheme.as_str()) {
                return Err(odd(&peer.host, "it redirects to what is no address of the web"));
            }
            let same = host == peer.host;
            if scheme == "http" && !may_lead_without_tls(&peer.host, peer.is_plain(), &host) {
                return Err(odd(&peer.host, &format!("it redirects to {host} without TLS")));
            }
            let next = self.hosts.peer(&host, same && endpoint.insecure)?;
            let question = Question {
                target: &target,
                head: wanted.head,
                accept: wanted.accept,
                authorization: None,
                form: None,
                limit: wanted.limit,
                deadline,
            };
            answer = next.ask(&question)?;
            match answer.status {
                200..=299 => return Ok(answer),
                301 | 302 | 303 | 307 | 308 => {}
                401 | 403 => return Err(Trouble::Denied { host, logged_in: false }),
                404 => return Err(not_found(&host, &answer)),
                _ => return Err(refusal(&host, &answer)),
            }
        }
        Err(odd(&peer.host, "it redirects without end"))
    }

    fn note_quota(&self, host: &str, answer: &Answer) {
        let number = |name: &str| {
            let text = answer.header(name)?;
            let (number, rest) = text.split_once(';').unwrap_or((text, ""));
            let window = rest.trim().strip_prefix("w=").and_then(|window| window.parse().ok()).unwrap_or(0);
            Some((number.trim().parse().ok()?, window))
        };
        if let (Some((limit, window)), Some((remaining, _))) =
            (number("ratelimit-limit"), number("ratelimit-remaining"))
        {
            locked(&self.quotas).insert(host.to_owned(), Quota { limit, remaining, window });
        }
    }
}

/// What a page of the web says with its 404 is not what a registry says.
fn not_found(host: &str, answer: &Answer) -> Trouble {
    if is_page(answer) {
        return Trouble::NoRegistry { host: host.to_owned(), why: "it shows a page of the web".into() };
    }
    Trouble::NotFound
}

/// Whether `answer` is a page for people.
pub(super) fn is_page(answer: &Answer) -> bool {
    answer.header("content-type").is_some_and(|is| is.starts_with("text/html"))
}

fn refusal(host: &str, answer: &Answer) -> Trouble {
    let host = host.to_owned();
    match answer.status {
        429 => Trouble::TooMany { host, wait: retry_after(answer).map(|wait| wait.as_secs()) },
        400 | 405 | 406 => {
            Trouble::NoRegistry { host, why: format!("it refuses the question (HTTP status {})", answer.status) }
        }
        status => Trouble::Failing { host, status },
    }
}

/// How long `answer` asks to wait (RFC 9110, "Retry-After"): a number of seconds, or a date.
fn retry_after(answer: &Answer) -> Option<Duration> {
    let text = answer.header("retry-after")?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}
