//! Which options are in effect: what the program says, over what the directory's OPTIONS file says, over the defaults.
//!
//! A field that has its default value says nothing. So a program that only asks for a Bloom filter keeps the codec that
//! the directory was made with, and a tool that knows nothing keeps everything. What has to be said though it is the
//! default, a [`FamilyDescriptor`](super::FamilyDescriptor)'s change says, or `options_are_complete`.
//!
//! Whether compactions run by themselves is a matter of one opening, and never taken from the file.
//!
//! The number of levels of a family that exists is the directory's: it says how the files lie. The compaction style is,
//! too, as long as the program says none; another one is refused if the files do not lie as it needs them.

use std::fmt::Display;

use crate::error::{Error, ErrorKind, Result};
use crate::format::comparator::KeyOrder;
use crate::format::merge::MergeRule;
use crate::iter::filter::FilterRule;
use crate::version::set::FamilySnapshot;

use super::file::OptionsFile;
use super::keys::{DATABASE, FAMILY};
use super::{CompactionStyle, FamilyDescriptor, FamilyOptions, Options, nested};

impl FamilyOptions {
    /// Puts every field that has another value than the default's into `options`, but the key order. For options that were
    /// validated.
    pub(super) fn say_over(&self, options: &mut FamilyOptions) {
        let default = FamilyOptions::default();
        for key in FAMILY {
            let said = (key.show)(self);
            let usual = (key.show)(&default);
            if said != usual {
                let taken = (key.take)(options, &nested::differing(&said, &usual));
                debug_assert!(taken.is_ok(), "{}={said}: validated options are taken", key.name);
            }
        }
    }
}

impl Options {
    fn descriptor(&self, name: &str) -> Option<&FamilyDescriptor> {
        self.families.iter().find(|descriptor| descriptor.name() == name)
    }

    /// The key order of a family that was made with the one called `stored`; `None`: whatever built-in one has this name.
    /// An order with another name is one that the program insists on.
    pub(crate) fn order_of(&self, family: &str, stored: &str) -> Option<KeyOrder> {
        let insisted = self.descriptor(family).and_then(FamilyDescriptor::said).map(|options| &options.key_order);
        if let Some(order) = insisted.filter(|order| !matches!(order, KeyOrder::Bytewise)) {
            return Some(order.clone());
        }
        let others = self.families.iter().filter_map(FamilyDescriptor::said).map(|options| &options.key_order);
        let known = std::iter::once(&self.family.key_order).chain(others).find(|order| order.name() == stored);
        let registered = || self.comparators.iter().find(|comparator| comparator.name() == stored);
        known.cloned().or_else(|| registered().map(|comparator| KeyOrder::Custom(comparator.clone())))
    }

    /// Refuses a key order that was asked for by name of no family, and that none has: RocksDB would refuse it for the
    /// default family.
    pub(crate) fn check_orders(&self, families: &[FamilySnapshot]) -> Result<()> {
        let asked = &self.family.key_order;
        let is_there = families.iter().any(|family| family.order.name() == asked.name());
        if is_there || matches!(asked, KeyOrder::Bytewise) {
            return Ok(());
        }
        let has = families.first().map_or("", |family| family.order.name());
        let message = format!(
            "no column family is ordered by {}, which `family.key_order` asks for; \"default\" is ordered by {has}",
            asked.name()
        );
        Err(Error::new(ErrorKind::InvalidArgument, message))
    }

    /// The options of a family that is in the directory, and what had to be put in order.
    pub(crate) fn of_family(
        &self,
        name: &str,
        order: &KeyOrder,
        text: &OptionsFile,
    ) -> Result<(FamilyOptions, Vec<String>)> {
        let mut stored = text.family_options(name)?;
        if let Some(stored) = &mut stored {
            // Newer tables only for a program that asks for them: what RocksDB 7.8 could read goes on being readable to it.
            stored.format_version = stored.format_version.min(FamilyOptions::default().format_version);
        }
        let mut options = if self.options_are_complete {
            self.family.clone()
        } else {
            let mut options = stored.clone().unwrap_or_default();
            self.family.say_over(&mut options);
            // Of one opening: who switches it off for a load, and opens again without, means that.
            options.disable_auto_compactions = self.family.disable_auto_compactions;
            options
        };
        self.say_of(name, &mut options);
        let stored_rule = stored.as_ref().and_then(|stored| stored.merge_operator.clone());
        if let Some(stored) = &stored {
            options.num_levels = stored.num_levels;
            // The default says nothing, but where a change assigns it.
            if options.compaction_style == CompactionStyle::default() {
                options.compaction_style = stored.compaction_style;
            }
        }
        self.change_of(name, &mut options);
        if let Some(stored) = &stored {
            check_stays(name, "num_levels", options.num_levels, stored.num_levels)?;
        }
        options.key_order = order.clone();
        options.merge_operator = self.merge_operator_of(name, stored_rule, options.merge_operator)?;
        options.compaction_filter_factory = self.filter_of(name, options.compaction_filter_factory);
        options.check(name)?;
        let changed = options.put_in_order();
        Ok((options, changed))
    }

    /// The options of a family that is about to be made.
    pub(crate) fn of_new_family(&self, name: &str) -> Result<FamilyOptions> {
        let mut options = self.family.clone();
        self.say_of(name, &mut options);
        self.change_of(name, &mut options);
        let insisted = self.descriptor(name).and_then(FamilyDescriptor::said).map(|options| &options.key_order);
        options.key_order = match insisted {
            Some(order) if !matches!(order, KeyOrder::Bytewise) => order.clone(),
            _ => self.family.key_order.clone(),
        };
        options.merge_operator = self.merge_operator_of(name, None, options.merge_operator)?;
        options.compaction_filter_factory = self.filter_of(name, options.compaction_filter_factory);
        options.checked(name)
    }

    /// The merge operator of a family: the one that the program gave under the name that `resolved` has. One with another name
    /// than OPTIONS says would read the operands that are there differently.
    fn merge_operator_of(
        &self,
        family: &str,
        stored: Option<MergeRule>,
        resolved: Option<MergeRule>,
    ) -> Result<Option<MergeRule>> {
        let Some(resolved) = resolved else { return Ok(None) };
        if let Some(stored) = stored.filter(|stored| stored.name() != resolved.name() && !self.options_are_complete) {
            let message = format!(
                "column family {family:?} has the merge operator {}, and was opened with {}: its operands would mean something \
                 else; `options_are_complete` is for who wants that",
                stored.name(),
                resolved.name()
            );
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let others = self.families.iter().filter_map(FamilyDescriptor::said);
        let own = self.descriptor(family).and_then(FamilyDescriptor::said);
        let given =
            own.into_iter().chain([&self.family]).chain(others).filter_map(|options| options.merge_operator.as_ref());
        Ok(Some(given.clone().find(|rule| rule.name() == resolved.name()).cloned().unwrap_or(resolved)))
    }

    /// The filter of a family: the one that the program gave under the name that `resolved` has.
    fn filter_of(&self, family: &str, resolved: Option<FilterRule>) -> Option<FilterRule> {
        let resolved = resolved?;
        let others = self.families.iter().filter_map(FamilyDescriptor::said);
        let own = self.descriptor(family).and_then(FamilyDescriptor::said);
        let mut given = own.into_iter().chain([&self.family]).chain(others);
        let given = given.find_map(|options| {
            options.compaction_filter_factory.as_ref().filter(|rule| rule.name() == resolved.name())
        });
        Some(given.cloned().unwrap_or(resolved))
    }

    fn say_of(&self, name: &str, options: &mut FamilyOptions) {
        let Some(descriptor) = self.descriptor(name) else { return };
        match descriptor.said() {
            // All of them, the defaults too.
            Some(said) if self.options_are_complete => *options = said.clone(),
            Some(said) => said.say_over(options),
            None => {}
        }
    }

    fn change_of(&self, name: &str, options: &mut FamilyOptions) {
        if let Some(descriptor) = self.descriptor(name) {
            descriptor.apply_change(options);
        }
    }

    /// The options of the database, with what the directory's file says of what the program does not.
    pub(crate) fn over_file(&self, text: &OptionsFile) -> Result<Options> {
        let mut options = self.clone();
        if !self.options_are_complete {
            let default = Options::default();
            let mut stored = Options::default();
            text.database_options(&mut stored)?;
            for key in DATABASE.iter().filter(|key| (key.show)(self) == (key.show)(&default)) {
                let shown = (key.show)(&stored);
                if (key.take)(&mut options, &shown).is_err() {
                    let what = format!("option {} does not take {shown:?}, which it shows itself", key.name);
                    return Err(Error::new(ErrorKind::Internal, what));
                }
            }
            let said = self.cache_index_and_filter_blocks;
            options.cache_index_and_filter_blocks = said.or(stored.cache_index_and_filter_blocks);
        }
        options.put_in_order();
        Ok(options)
    }

    /// Families that the program names and that have to be made if they are missing.
    pub(crate) fn families_to_make(&self) -> impl Iterator<Item = &str> {
        let described = self.families.iter().filter(|_| self.create_missing_column_families);
        self.create_column_families.iter().map(String::as_str).chain(described.map(FamilyDescriptor::name))
    }

    /// Refuses a descriptor of a family that is neither there nor to be made.
    pub(crate) fn check_families(&self, is_there: impl Fn(&str) -> bool) -> Result<()> {
        let is_known = |name: &str| is_there(name) || self.families_to_make().any(|made| made == name);
        match self.families.iter().find(|descriptor| !is_known(descriptor.name())) {
            None => Ok(()),
            Some(missing) => {
                let name = missing.name();
                let message =
                    format!("there is no column family {name:?}, and `create_missing_column_families` is off");
                Err(Error::new(ErrorKind::NoSuchColumnFamily, message))
            }
        }
    }
}

impl FamilyOptions {
    fn check(&self, family: &str) -> Result<()> {
        self.validate().map_err(|error| {
            let kind = error.kind();
            error.because(kind, format!("column family {family:?}"))
        })
    }

    /// Refuses, by name, what makes no sense, and puts in order what does.
    pub(crate) fn checked(self, family: &str) -> Result<FamilyOptions> {
        self.checked_and_said(family).map(|(options, _)| options)
    }

    /// The same; also says what had to be put in order.
    pub(crate) fn checked_and_said(mut self, family: &str) -> Result<(FamilyOptions, Vec<String>)> {
        self.check(family)?;
        let changed = self.put_in_order();
        Ok((self, changed))
    }
}

/// What a descriptor's change assigns is meant: it is not dropped in silence where the directory decides.
fn check_stays<T: PartialEq + Display>(family: &str, option: &str, changed: T, stored: T) -> Result<()> {
    if changed == stored {
        return Ok(());
    }
    let message = format!(
        "families: the change of {family:?} makes {option} {changed}, but the family exists and has {stored}, which stays"
    );
    Err(Error::new(ErrorKind::InvalidArgument, message))
}
