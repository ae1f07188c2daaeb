//! A store in memory, for tests: the contract in its plainest form.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use super::input::Input;
use super::limit::UploadLimit;
use super::name::{folder_of, join};
use super::{Body, ObjectInfo, StoreError, check_size};

/// Objects in memory; they are gone with the store.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Object>>,
    limit: UploadLimit,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Arc<[u8]>,
    arrived: SystemTime,
}

impl Object {
    fn info(&self, name: &str) -> ObjectInfo {
        ObjectInfo { name: name.to_owned(), size: self.bytes.len() as u64, arrived: self.arrived }
    }
}

impl MemoryStore {
    /// As a store whose uploads are limited, in bytes a second.
    pub fn limited(rate: chassis::units::ByteSize) -> Result<Self, StoreError> {
        Ok(Self { objects: Mutex::default(), limit: UploadLimit::new(Some(rate))? })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        self.objects.lock().expect("no holder of this lock panics")
    }

    fn find(&self, name: &str) -> Result<Object, StoreError> {
        self.lock().get(name).cloned().ok_or_else(|| StoreError::missing(name))
    }

    pub(super) fn create(&self, name: &str, body: Body<'_>) -> Result<(), StoreError> {
        let mut input = Input::open(body)?;
        let mut bytes = Vec::new();
        loop {
            let piece = input.next(self.limit.piece(1 << 20))?;
            if piece.is_empty() {
                break;
            }
            self.limit.take(piece.len());
            bytes.extend_from_slice(piece);
        }
        let mut objects = self.lock();
        if objects.contains_key(name) {
            return Err(StoreError::exists(name));
        }
        let object = Object { bytes: bytes.into(), arrived: SystemTime::now() };
        objects.insert(name.to_owned(), object);
        Ok(())
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let object = self.find(name)?;
        check_size(name, object.bytes.len() as u64)?;
        Ok(object.bytes.to_vec())
    }

    pub(super) fn read_range(
        &self,
        name: &str,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let object = self.find(name)?;
        let size = object.bytes.len() as u64;
        let start = offset.min(size);
        let end = offset.saturating_add(length as u64).min(size);
        Ok(object.bytes[start as usize..end as usize].to_vec())
    }

    pub(super) fn stat(&self, name: &str) -> Option<ObjectInfo> {
        self.lock().get(name).map(|object| object.info(name))
    }

    pub(super) fn list(&self, folder: &str) -> Vec<ObjectInfo> {
        let first = join(folder, "");
        let is_below = |name: &str| folder.is_empty() || name.starts_with(&first);
        self.lock()
            .range(first.clone()..)
            .take_while(|(name, _)| is_below(name))
            .filter(|(name, _)| folder_of(name) == folder)
            .map(|(name, object)| object.info(name))
            .collect()
    }

    pub(super) fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.lock().remove(name).map(drop).ok_or_else(|| StoreError::missing(name))
    }
}
