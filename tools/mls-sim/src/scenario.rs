//! What kinds of runs there are.

use serde::{Deserialize, Serialize};

/// What a run begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Where everything else is drawn from.
    pub seed: u64,
    /// How many devices there are at the beginning.
    pub devices: usize,
    /// How many users they belong to, in turn.
    pub users: usize,
    /// How many of these users, the last ones, are not in the room at the beginning.
    pub outside: usize,
    /// Homeservers refuse events of those whom they have removed during a cut.
    pub soft_fails: bool,
    /// Some clocks are wrong.
    pub skewed: bool,
    /// The founder is alone at first.
    #[serde(default)]
    pub founder_alone: bool,
    /// Events are small, so that most commits and trees become files.
    #[serde(default)]
    pub small_events: bool,
}

macro_rules! scenarios {
    ($($(#[doc = $doc:literal])* $scenario:ident = $name:literal,)*) => {
        /// A kind of run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Scenario {
            $($(#[doc = $doc])* #[serde(rename = $name)] $scenario,)*
        }

        impl Scenario {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$scenario),*];

            /// What it is called.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$scenario => $name,)* }
            }
        }
    };
}

scenarios! {
    /// Messages, renewed keys, comings and goings; nothing goes wrong.
    Calm = "calm",
    /// Everything, but insiders.
    Mixed = "mixed",
    /// Commits at the same time, again and again.
    Race = "race",
    /// The network is cut into two or three parts, which all go on, change the room and come together.
    Partition = "partition",
    /// Processes are killed at writes and in the middle of operations.
    Crashes = "crashes",
    /// Limited syncs: commits have to be fetched.
    Gaps = "gaps",
    /// Events that homeservers refuse after a cut, for ever.
    SoftFailed = "soft-failed",
    /// A removed device removes who has removed it, at once.
    RetaliationOne = "retaliation-one",
    /// A removed device removes everybody, at once.
    RetaliationAll = "retaliation-all",
    /// The same, with an accomplice among the members.
    Accomplice = "accomplice",
    /// A removed device grows an old branch.
    OldBranch = "old-branch",
    /// The same, with accounts of its own.
    OldBranchAccounts = "old-branch-accounts",
    /// A removed device lets a newcomer in on its branch.
    WelcomeFromRemoved = "welcome-from-removed",
    /// A commit that nobody can process.
    Unprocessable = "unprocessable",
    /// A commit that half of the members can process.
    HalfProcessable = "half-processable",
    /// A member is removed without cause.
    FalseRemoval = "false-removal",
    /// Everybody is removed without cause.
    RemoveEverybody = "remove-everybody",
    /// Two members remove one another.
    MutualRemoval = "mutual-removal",
    /// A device makes several commits on one epoch.
    Double = "double",
    /// A device makes 80 commits in a row.
    Flood = "flood",
    /// Invented devices in the tree.
    Stuffing = "stuffing",
    /// Who was alone at first forks there long after.
    LoneFounder = "lone-founder",
    /// External commits in somebody else's name.
    ExternalAs = "external-as",
    /// A false context, and a false tag, of the parent.
    FalseContext = "false-context",
    /// Another group, with Welcomes to everybody.
    FakeGroup = "fake-group",
    /// A commit that claims to resolve the honest branch.
    Resolve = "resolve",
    /// Many devices of one user grow the branch on which one of them was not removed.
    ManyDevices = "many-devices",
    /// Commits reach half of the members late.
    Withheld = "withheld",
    /// Commits never reach half of the members.
    WithheldForEver = "withheld-for-ever",
    /// Insiders do anything, while everything goes wrong.
    Insiders = "insiders",
}

impl Scenario {
    /// Whether there are insiders in it.
    pub fn is_attack(self) -> bool {
        use Scenario::{Calm, Crashes, Gaps, Mixed, Partition, Race, SoftFailed};
        !matches!(self, Calm | Mixed | Race | Partition | Crashes | Gaps | SoftFailed)
    }

    /// Whether the time under attack is measured in it. Not where the attacks' commits are ordinary ones
    /// in number or in what reaches whom, and are not noted as an attack's.
    pub fn has_harm(self) -> bool {
        use Scenario::{Double, Flood, Withheld, WithheldForEver};
        self.is_attack() && !matches!(self, Double | Flood | Withheld | WithheldForEver)
    }

    /// The one with a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scenario| scenario.name() == name)
    }
}
