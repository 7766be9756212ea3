//! What is left to bring of the objects of Git LFS that a tree lacks, and when to give up.

use std::collections::HashSet;

use super::GatewayError;
use super::remote;
use crate::error::Cause;
use crate::lfs;
use crate::lfs::Action;
use crate::lfs::Object;
use crate::lfs::ObjectId;
use crate::remote::ObjectsError;
use crate::remote::ObjectsFetched;

/// Most rounds in a row that bring no object: those that ask for places, and redirects.
const MOST_FRUITLESS: usize = 50;

/// The objects of one listing that are not here yet.
pub(super) struct Left {
    objects: Vec<Object>,
    /// Those that a place has refused once.
    refused: HashSet<ObjectId>,
}

impl Left {
    pub(super) fn new(objects: Vec<Object>) -> Self {
        Self { objects, refused: HashSet::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Those whose places are not among these.
    pub(super) fn without(&self, places: &[Action]) -> Vec<Object> {
        let known: HashSet<_> = places.iter().map(|action| name(&action.object)).collect();
        self.objects.iter().filter(|object| !known.contains(&name(object))).cloned().collect()
    }

    /// The places that a worker tells of these objects, one for each. Its word about any other is not heeded.
    pub(super) fn told(&self, actions: Vec<Action>) -> Vec<Action> {
        let mut wanted: HashSet<_> = self.objects.iter().map(name).collect();
        actions.into_iter().filter(|action| wanted.remove(&name(&action.object))).collect()
    }

    /// Notes what a round at this origin brought.
    ///
    /// # Errors
    ///
    /// [`ObjectsError::PlaceRefused`] for an object that a place refuses, although its server was asked anew.
    pub(super) fn note(&mut self, fetched: &ObjectsFetched, there: &str) -> Result<(), GatewayError> {
        let here: HashSet<_> = fetched.here.iter().collect();
        self.objects.retain(|object| !here.contains(&object.id));
        for refused in &fetched.refused {
            let object = self.objects.iter().find(|object| object.id == refused.id);
            if let Some((object, code)) = object.zip(refused.code)
                && !self.refused.insert(object.id)
            {
                return Err(remote(ObjectsError::place_refused(there.to_owned(), object, code).into()));
            }
        }
        Ok(())
    }
}

/// An object of this hash and size.
fn name(object: &Object) -> (ObjectId, u64) {
    (object.id, object.size)
}

/// The rounds of one volume.
#[derive(Default)]
pub(super) struct Rounds {
    /// Bytes received.
    pub(super) received: u64,
    /// Those that brought objects.
    fruitful: usize,
    /// Those since then.
    fruitless: usize,
}

impl Rounds {
    /// Counts a round. Each that brings something leaves a segment.
    ///
    /// # Errors
    ///
    /// There are too many.
    pub(super) fn count(&mut self, fetched: &ObjectsFetched, left: &Left, url: &str) -> Result<(), GatewayError> {
        self.received = self.received.saturating_add(fetched.bytes);
        if fetched.here.is_empty() {
            self.fruitless += 1;
        } else {
            (self.fruitful, self.fruitless) = (self.fruitful + 1, 0);
        }
        if self.fruitful > lfs::MOST_ROUNDS {
            return Err(remote(ObjectsError::TooMany { url: url.to_owned() }.into()));
        }
        match left.objects.first() {
            Some(object) if self.fruitless > MOST_FRUITLESS => {
                let source = Cause::new("its places lead to others, and never to the object");
                Err(remote(ObjectsError::refused(url.to_owned(), object, 508, source).into()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;
    use crate::error::Kind;
    use crate::lfs::Pointer;
    use crate::remote::Refused;

    const THERE: &str = "https://s3.example.com";

    fn object(number: u8) -> Object {
        Object::new(&Pointer { id: ObjectId::from_bytes([number; 32]), size: number.into() }, b"file")
    }

    fn action(number: u8) -> Action {
        Action::new(object(number), Secret::new(THERE.to_owned()), Vec::new())
    }

    fn refused(number: u8, code: Option<u16>) -> ObjectsFetched {
        ObjectsFetched { refused: vec![Refused::new(object(number).id, code)], ..ObjectsFetched::default() }
    }

    #[test]
    fn only_what_is_left_is_asked_for_and_only_once() {
        let mut left = Left::new((1..=4).map(object).collect());
        left.note(&ObjectsFetched { here: vec![object(2).id, object(9).id], ..ObjectsFetched::default() }, THERE)
            .unwrap();
        let told = left.told(vec![action(1), action(1), action(2), action(9)]);
        assert_eq!(told.iter().map(|action| action.object.clone()).collect::<Vec<_>>(), [object(1)]);
        assert_eq!(left.without(&told), [object(3), object(4)]);
        let all =
            ObjectsFetched { here: [1, 3, 4].map(|number| object(number).id).into(), ..ObjectsFetched::default() };
        left.note(&all, THERE).unwrap();
        assert!(left.is_empty());
    }

    #[test]
    fn a_place_may_refuse_an_object_once_and_be_over_more_often() {
        let mut left = Left::new(vec![object(1), object(2)]);
        for fetched in [refused(1, Some(403)), refused(2, Some(401)), refused(1, None), refused(9, Some(403))] {
            left.note(&fetched, THERE).unwrap();
        }
        left.note(&refused(9, Some(403)), THERE).unwrap();
        let error = left.note(&refused(1, Some(403)), THERE).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
    }

    #[test]
    fn rounds_that_bring_something_are_many_and_those_that_bring_nothing_are_not() {
        let left = Left::new(vec![object(1)]);
        let (nothing, something) =
            (ObjectsFetched::default(), ObjectsFetched { here: vec![object(2).id], ..ObjectsFetched::default() });
        let mut rounds = Rounds::default();
        for _ in 0..lfs::MOST_ROUNDS {
            (0..MOST_FRUITLESS).for_each(|_| rounds.count(&nothing, &left, THERE).unwrap());
            rounds.count(&something, &left, THERE).unwrap();
        }
        assert_eq!(rounds.count(&something, &left, THERE).unwrap_err().kind(), Kind::ResourceExhausted);
        let mut rounds = Rounds::default();
        (0..MOST_FRUITLESS).for_each(|_| rounds.count(&nothing, &left, THERE).unwrap());
        assert_eq!(rounds.count(&nothing, &left, THERE).unwrap_err().kind(), Kind::Unavailable);
    }
}
