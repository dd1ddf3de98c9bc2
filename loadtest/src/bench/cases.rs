//! Which cases are measured beside peers, and what the project demands of each: `must` is not to be exceeded, `aim` is
//! what is wished for. Both are ratios to nginx in the same run, except for the memory of idle connections.

/// A demand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Demand {
    /// Not to be exceeded.
    pub(super) must: f64,
    /// Wished for.
    pub(super) aim: f64,
}

/// How requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// HTTP/1.1 without TLS.
    Plain,
    /// HTTP/1.1 over TLS 1.3.
    Tls,
    /// HTTP/2 over TLS 1.3.
    Http2,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A page of so many bytes through the proxy, by a visitor inside.
    Proxied(&'static str),
    /// 1 MB sent through the proxy, by a visitor inside.
    Upload,
    /// The waiting page.
    Page,
    /// Polls of visitors in line.
    Poll,
    /// Joins.
    Join,
    /// A page through the proxy over a new connection each time.
    NewConnection,
    /// Connections that do nothing after their first request.
    Idle,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// Its name, by which it is chosen.
    pub(super) name: &'static str,
    /// What is done.
    pub(super) work: Work,
    /// How requests travel.
    pub(super) scheme: Scheme,
    /// Workers of each program.
    pub(super) workers: usize,
    /// What is demanded: of CPU time a request against nginx's, or of KiB an idle connection.
    pub(super) demand: Option<Demand>,
}

const fn case(name: &'static str, work: Work, scheme: Scheme, demand: Option<(f64, f64)>) -> Case {
    let demand = match demand {
        Some((must, aim)) => Some(Demand { must, aim }),
        None => None,
    };
    Case { name, work, scheme, workers: 1, demand }
}

const KB: Work = Work::Proxied("/bench/1k");
const KB16: Work = Work::Proxied("/bench/16k");

/// All rows.
pub(super) const ALL: &[Case] = &[
    case("proxied-1k", KB, Scheme::Plain, Some((1.0, 0.85))),
    case("proxied-16k", KB16, Scheme::Plain, Some((1.0, 0.93))),
    Case { workers: 2, ..case("proxied-1k-2-workers", KB, Scheme::Plain, None) },
    Case { workers: 2, ..case("proxied-16k-2-workers", KB16, Scheme::Plain, None) },
    case("proxied-1k-tls", KB, Scheme::Tls, None),
    case("proxied-16k-tls", KB16, Scheme::Tls, None),
    case("proxied-1k-http2", KB, Scheme::Http2, None),
    case("proxied-16k-http2", KB16, Scheme::Http2, None),
    case("upload-1m", Work::Upload, Scheme::Plain, None),
    case("page", Work::Page, Scheme::Plain, Some((0.65, 0.55))),
    case("page-tls", Work::Page, Scheme::Tls, None),
    case("page-http2", Work::Page, Scheme::Http2, None),
    case("poll", Work::Poll, Scheme::Plain, Some((1.25, 1.1))),
    case("poll-tls", Work::Poll, Scheme::Tls, Some((0.9, 0.75))),
    case("poll-http2", Work::Poll, Scheme::Http2, Some((0.75, 0.6))),
    case("join", Work::Join, Scheme::Plain, None),
    case("new-connection-tls", Work::NewConnection, Scheme::Tls, Some((0.6, 0.45))),
    case("idle-tls", Work::Idle, Scheme::Tls, Some((28.0, 10.0))),
    case("idle", Work::Idle, Scheme::Plain, None),
];

impl Demand {
    /// What to say of a figure.
    pub(super) fn verdict(self, figure: f64) -> &'static str {
        match figure {
            figure if figure <= self.aim => "aim reached",
            figure if figure <= self.must => "met",
            _ => "NOT MET",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_aims_are_harder_than_musts() {
        for (n, case) in ALL.iter().enumerate() {
            assert!(ALL.iter().skip(n + 1).all(|other| other.name != case.name), "{}", case.name);
            assert!(case.demand.is_none_or(|demand| demand.aim < demand.must), "{}", case.name);
        }
    }

    #[test]
    fn a_verdict_is_one_of_three() {
        let demand = Demand { must: 1.0, aim: 0.85 };
        assert_eq!([0.8, 0.9, 1.1].map(|figure| demand.verdict(figure)), ["aim reached", "met", "NOT MET"]);
    }
}
