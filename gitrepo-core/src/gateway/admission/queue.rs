//! Who has a place, who waits for one, and who is next.

use std::collections::BTreeMap;

use crate::policy::UidRange;

/// How many sessions may run at once.
///
/// A tenant gets at most two thirds of the places to fetch, so does a host, and a tenant at one host gets two thirds of
/// a host's. Each of them gets half of the other places besides. So a tenant or a host that hangs leaves places for the
/// others, and fetches that hang leave some for questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// In total.
    pub total: usize,
    /// Those that fetch. The other places are kept for sessions that only ask, which are short: a hit in the store may
    /// have to ask the remote.
    pub fetches: usize,
}

/// What a session does with its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Purpose {
    /// Asks the remote where a revision stands.
    Ask,
    /// Fetches, for as long as that takes.
    Fetch,
}

/// A session that has a place or waits for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) tenant: String,
    pub(super) host: String,
    pub(super) purpose: Purpose,
}

/// All sessions, by the number that each got when it came.
#[derive(Debug)]
pub(super) struct Queue {
    bounds: Bounds,
    active: BTreeMap<u64, Claim>,
    waiting: BTreeMap<u64, Claim>,
    issued: u64,
}

impl Bounds {
    /// No bounds.
    pub const NONE: Self = Self { total: usize::MAX, fetches: usize::MAX };

    /// Creates bounds for this number of places. A quarter of them, at least one, is kept for sessions that only ask.
    pub const fn new(total: usize) -> Self {
        let kept = match total {
            0 | 1 => 0,
            2..=7 => 1,
            _ => total / 4,
        };
        Self { total, fetches: total - kept }
    }

    /// Returns the bounds for workers with these user ids. A fifth of the receivers' ids is left to other programs that
    /// share the range: the FlexVolume driver, and a person at a shell.
    pub fn of(uids: UidRange) -> Self {
        let receivers = uids.of_receivers().count();
        Self::new(receivers - receivers / 5)
    }
}

/// How many sessions may have a place: in total, of one tenant or one host, and of one tenant at one host.
struct Limits {
    all: usize,
    one: usize,
    both: usize,
}

impl Bounds {
    fn for_fetches(self) -> Limits {
        let one = share(self.fetches);
        Limits { all: self.fetches, one, both: share(one) }
    }

    fn for_all(self) -> Limits {
        let Limits { one, both, .. } = self.for_fetches();
        let besides = self.total.saturating_sub(self.fetches).div_ceil(2);
        let with = |fetches: usize| fetches.saturating_add(besides).min((self.total - 1).max(1));
        Limits { all: self.total, one: with(one), both: with(both) }
    }
}

/// Two thirds of some places: at least one, and not all unless there is only one.
const fn share(places: usize) -> usize {
    match places {
        0 | 1 => places,
        2 => 1,
        _ => places - places / 3,
    }
}

impl Queue {
    pub(super) fn new(bounds: Bounds) -> Self {
        // With a bound of zero, sessions would wait for ever.
        let bounds = Bounds { total: bounds.total.max(1), fetches: bounds.fetches.max(1) };
        Self { bounds, active: BTreeMap::new(), waiting: BTreeMap::new(), issued: 0 }
    }

    pub(super) fn active(&self) -> usize {
        self.active.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_active(&self, number: u64) -> bool {
        self.active.contains_key(&number)
    }

    /// Lets a session wait for a place, which it may get at once.
    pub(super) fn enter(&mut self, claim: Claim) -> u64 {
        self.issued += 1;
        self.waiting.insert(self.issued, claim);
        self.fill();
        self.issued
    }

    /// Removes a session, whether it has a place or waits.
    pub(super) fn leave(&mut self, number: u64) {
        self.waiting.remove(&number);
        self.active.remove(&number);
        self.fill();
    }

    /// Lets a session that asks fetch from now on, in its place, if that takes nothing from a session with a better
    /// claim.
    pub(super) fn promote(&mut self, number: u64) -> bool {
        let Some(mut claim) = self.active.remove(&number) else { return false };
        let asked = claim.purpose;
        claim.purpose = Purpose::Fetch;
        let is_allowed = asked == Purpose::Fetch || (self.has_room(&claim) && !self.is_behind(&claim));
        claim.purpose = if is_allowed { Purpose::Fetch } else { asked };
        self.active.insert(number, claim);
        is_allowed
    }

    /// Whether a session that waits could fetch in place of this one, and its tenant has fewer places.
    fn is_behind(&self, claim: &Claim) -> bool {
        let places = self.places_of(claim);
        let mut fetches = self.waiting.values().filter(|waiting| waiting.purpose == Purpose::Fetch);
        fetches.any(|waiting| self.has_room(waiting) && self.places_of(waiting) < places)
    }

    /// Gives away the free places: to the tenant with the fewest sessions, there to the host with the fewest, there to
    /// the oldest session.
    fn fill(&mut self) {
        while let Some(number) = self.next()
            && let Some(claim) = self.waiting.remove(&number)
        {
            self.active.insert(number, claim);
        }
    }

    fn next(&self) -> Option<u64> {
        if self.active.len() >= self.bounds.total {
            return None;
        }
        let fitting = self.waiting.iter().filter(|(_, claim)| self.has_room(claim));
        let first = fitting.min_by_key(|(number, claim)| (self.places_of(claim), **number));
        first.map(|(number, _)| *number)
    }

    /// How many places the tenant has, and the host.
    fn places_of(&self, claim: &Claim) -> (usize, usize) {
        let count =
            |is_counted: &dyn Fn(&Claim) -> bool| self.active.values().filter(|other| is_counted(other)).count();
        (count(&|other| other.tenant == claim.tenant), count(&|other| other.host == claim.host))
    }

    fn has_room(&self, claim: &Claim) -> bool {
        self.is_within(&self.bounds.for_all(), claim, |_| true)
            && (claim.purpose == Purpose::Ask
                || self.is_within(&self.bounds.for_fetches(), claim, |other| other.purpose == Purpose::Fetch))
    }

    /// Whether one more session is within these limits for the sessions that `count` accepts.
    fn is_within(&self, limits: &Limits, claim: &Claim, count: impl Fn(&Claim) -> bool) -> bool {
        let (mut all, mut tenant, mut host, mut both) = (0, 0, 0, 0);
        for other in self.active.values().filter(|other| count(other)) {
            let (same_tenant, same_host) = (other.tenant == claim.tenant, other.host == claim.host);
            all += 1;
            tenant += usize::from(same_tenant);
            host += usize::from(same_host);
            both += usize::from(same_tenant && same_host);
        }
        all < limits.all && tenant < limits.one && host < limits.one && both < limits.both
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bounds of the default range of user ids.
    fn queue() -> Queue {
        Queue::new(Bounds::of(UidRange::parse("65521-65531").unwrap()))
    }

    fn claim(tenant: &str, host: &str, purpose: Purpose) -> Claim {
        Claim { tenant: tenant.to_owned(), host: host.to_owned(), purpose }
    }

    fn fetch(tenant: &str, host: &str) -> Claim {
        claim(tenant, host, Purpose::Fetch)
    }

    fn ask(tenant: &str, host: &str) -> Claim {
        claim(tenant, host, Purpose::Ask)
    }

    impl Queue {
        /// Enters sessions, and returns how many of them get a place.
        fn admits(&mut self, claims: impl IntoIterator<Item = Claim>) -> usize {
            let numbers: Vec<_> = claims.into_iter().map(|claim| self.enter(claim)).collect();
            numbers.into_iter().filter(|number| self.is_active(*number)).count()
        }
    }

    #[test]
    fn other_programs_get_a_fifth_of_the_user_ids_and_questions_a_quarter_of_the_places() {
        for (uids, total, fetches) in [("65521-65531", 8, 6), ("7-7", 1, 1), ("7-8", 1, 1), ("7-9", 2, 1)] {
            assert_eq!(Bounds::of(UidRange::parse(uids).unwrap()), Bounds { total, fetches }, "{uids}");
        }
        assert_eq!([0, 1, 2, 3, 4, 7, 9].map(share), [0, 1, 1, 2, 3, 5, 6]);
    }

    #[test]
    fn s26_one_tenant_on_many_hosts_leaves_places_for_another() {
        let mut queue = queue();
        assert_eq!(queue.admits((0..20).map(|number| fetch("hostile", &format!("host-{}", number % 10)))), 4);
        assert_eq!(queue.admits((0..20).map(|number| ask("hostile", &format!("host-{}", number % 10)))), 1);
        assert_eq!((queue.active(), queue.waiting()), (5, 35));
        assert_eq!(queue.admits([fetch("other", "git"), ask("other", "git")]), 2);
    }

    #[test]
    fn s26_one_tenant_on_one_host_leaves_places_for_its_own_questions_other_tenants_and_other_hosts() {
        let mut queue = queue();
        assert_eq!(queue.admits((0..20).map(|_| fetch("hostile", "forge"))), 3);
        assert_eq!(queue.admits((0..20).map(|_| ask("hostile", "forge"))), 1);
        assert_eq!(queue.admits((0..20).map(|_| fetch("other", "forge"))), 1);
        assert_eq!(queue.admits((0..20).map(|_| fetch("third", "git"))), 2);
    }

    #[test]
    fn s26_fetches_of_all_tenants_leave_places_for_questions() {
        let mut queue = queue();
        assert_eq!(queue.admits((0..40).map(|number| fetch(&number.to_string(), &number.to_string()))), 6);
        assert_eq!(queue.admits([ask("one", "one"), ask("two", "two"), ask("three", "three")]), 2);
    }

    #[test]
    fn a_free_place_goes_to_the_tenant_with_the_fewest_then_to_the_host_with_the_fewest_then_to_the_oldest() {
        let mut queue = Queue::new(Bounds { total: 3, fetches: 3 });
        let first = queue.enter(fetch("a", "x"));
        let second = queue.enter(fetch("b", "x"));
        let third = queue.enter(fetch("a", "y"));
        assert!([first, second, third].iter().all(|number| queue.is_active(*number)));
        let [many, busy, fresh, late] =
            [fetch("a", "z"), fetch("c", "x"), fetch("d", "z"), fetch("e", "w")].map(|claim| queue.enter(claim));
        queue.leave(second);
        assert!(queue.is_active(fresh), "neither its tenant nor its host has a place, and it came before the last");
        queue.leave(third);
        assert!(queue.is_active(late));
        queue.leave(first);
        assert!(queue.is_active(busy) && !queue.is_active(many));
    }

    #[test]
    fn a_question_becomes_a_fetch_where_a_fetch_has_room() {
        let mut queue = Queue::new(Bounds::new(9));
        let asking: Vec<_> = (0..4).map(|number| queue.enter(ask("a", &number.to_string()))).collect();
        assert!(asking.iter().all(|number| queue.promote(*number)));
        assert!(asking.iter().all(|number| queue.promote(*number)), "again");
        assert_eq!(queue.admits([fetch("a", "4"), fetch("a", "5")]), 1);
        let fifth = queue.enter(ask("a", "6"));
        assert!(queue.is_active(fifth) && !queue.promote(fifth), "the tenant has its share of fetches");
        assert!(!queue.promote(1000));
    }

    #[test]
    fn a_question_does_not_become_a_fetch_before_a_tenant_with_fewer_places() {
        let mut queue = Queue::new(Bounds { total: 4, fetches: 4 });
        let [first, second] = ["1", "2"].map(|host| queue.enter(ask("a", host)));
        assert_eq!(queue.admits([fetch("b", "3"), fetch("c", "4")]), 2);
        let waiting = queue.enter(fetch("d", "5"));
        assert!(!queue.is_active(waiting) && !queue.promote(first));
        queue.leave(first);
        assert!(queue.is_active(waiting) && queue.promote(second));
    }
}
