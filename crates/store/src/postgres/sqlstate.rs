//! The SQLSTATEs that the store distinguishes, and what each means for a caller.
//!
//! The codes are those of PostgreSQL's documentation, appendix A, "PostgreSQL Error Codes".

/// The classes that PostgreSQL uses for itself.
const SERVER_CLASSES: &[&str] = &[
    "00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23", "24", "25",
    "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55", "57",
    "58", "72", "F0", "HV", "P0", "XX",
];

/// An SQLSTATE, or the class of one where all codes of the class mean the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SqlState {
    /// Class 08: the connection failed.
    ConnectionException,
    /// Class 22: a value that its column's type does not accept.
    DataException,
    /// 23505: a key is stored already.
    UniqueViolation,
    /// The rest of class 23: another violated constraint.
    ConstraintViolation,
    /// 25006: the server is a standby, which accepts no writes.
    ReadOnlyTransaction,
    /// 25P03: the transaction was idle for too long and was ended.
    IdleInTransactionTimeout,
    /// 25P04: the transaction took too long and was ended.
    TransactionTimeout,
    /// 3F000: the schema does not exist.
    UndefinedSchema,
    /// 40001: a concurrent transaction changed the same rows.
    SerializationFailure,
    /// 40P01: a deadlock was resolved by ending this transaction.
    Deadlock,
    /// 42P01: the table does not exist.
    UndefinedTable,
    /// 42P07: the table exists already.
    DuplicateTable,
    /// Class 44: a violated check option.
    CheckOptionViolation,
    /// 53100: the server's disk is full.
    DiskFull,
    /// 53200: the server is out of memory.
    OutOfMemory,
    /// 53300: the server has too many connections.
    TooManyConnections,
    /// Class 54: a limit of the server, such as an index row too long or JSON nested too deeply.
    ProgramLimitExceeded,
    /// 55P03: a lock was not available within `lock_timeout`.
    LockNotAvailable,
    /// 57014: the statement ran longer than `statement_timeout`, or was cancelled.
    QueryCanceled,
    /// 57P01 to 57P05: the server is stopping or starting, or ended the session.
    OperatorIntervention,
    /// XX001 and XX002: a page of a table or of an index is damaged.
    DataCorrupted,
    /// SLB01: raised by our function `mark_commit`.
    CommitsMissing,
    /// Raised by a trigger that somebody added: class P0 (PL/pgSQL), classes 09, 38 and 39 (triggered actions and
    /// external routines), and classes that PostgreSQL itself does not use.
    RaisedException,
    /// All others: faults in a statement, in the server, in its files or its permissions. They say nothing
    /// about the data.
    Other,
}

/// What an SQLSTATE means for a caller of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The data is refused, and would be refused again.
    RefusesData,
    /// Another transaction prevented this one: repeating it helps.
    Conflict,
    /// The statement was cancelled, because it took too long.
    TooSlow,
    /// The server cannot be used for now.
    Unavailable,
    /// The tables of the store do not exist (any more): they have to be created again.
    MissingTables,
    /// The server's disk is full.
    DiskFull,
    /// The server's files are damaged.
    Damaged,
    /// Commits that were confirmed are missing.
    Behind,
    /// A fault that repeating does not remove.
    Failed,
}

impl SqlState {
    /// Returns the SQLSTATE of an error; `None` if the error does not come from the server.
    pub fn of(error: &sqlx::Error) -> Option<Self> {
        let database = error.as_database_error()?;
        Some(Self::from_code(&database.code().unwrap_or_default()))
    }

    /// Classifies a code of five characters.
    pub fn from_code(code: &str) -> Self {
        match code {
            "23505" => Self::UniqueViolation,
            "25006" => Self::ReadOnlyTransaction,
            "25P03" => Self::IdleInTransactionTimeout,
            "25P04" => Self::TransactionTimeout,
            "3F000" => Self::UndefinedSchema,
            "40001" => Self::SerializationFailure,
            "40P01" => Self::Deadlock,
            "42P01" => Self::UndefinedTable,
            "42P07" => Self::DuplicateTable,
            "53100" => Self::DiskFull,
            "53200" => Self::OutOfMemory,
            "53300" => Self::TooManyConnections,
            "55P03" => Self::LockNotAvailable,
            "57014" => Self::QueryCanceled,
            "XX001" | "XX002" => Self::DataCorrupted,
            "SLB01" => Self::CommitsMissing,
            _ if code.starts_with("57P0") => Self::OperatorIntervention,
            _ => match code.get(..2) {
                Some("08") => Self::ConnectionException,
                Some("22") => Self::DataException,
                Some("23") => Self::ConstraintViolation,
                Some("44") => Self::CheckOptionViolation,
                Some("54") => Self::ProgramLimitExceeded,
                Some("09" | "38" | "39" | "P0") => Self::RaisedException,
                Some(class) if !SERVER_CLASSES.contains(&class) => Self::RaisedException,
                _ => Self::Other,
            },
        }
    }

    /// Returns what the code means for a caller.
    pub fn meaning(self) -> Meaning {
        match self {
            Self::DataException
            | Self::UniqueViolation
            | Self::ConstraintViolation
            | Self::CheckOptionViolation
            | Self::ProgramLimitExceeded
            | Self::RaisedException => Meaning::RefusesData,
            Self::SerializationFailure | Self::Deadlock | Self::LockNotAvailable => Meaning::Conflict,
            Self::QueryCanceled => Meaning::TooSlow,
            Self::ConnectionException
            | Self::ReadOnlyTransaction
            | Self::IdleInTransactionTimeout
            | Self::TransactionTimeout
            | Self::OutOfMemory
            | Self::TooManyConnections
            | Self::OperatorIntervention => Meaning::Unavailable,
            Self::UndefinedSchema | Self::UndefinedTable => Meaning::MissingTables,
            Self::DiskFull => Meaning::DiskFull,
            Self::DataCorrupted => Meaning::Damaged,
            Self::CommitsMissing => Meaning::Behind,
            Self::DuplicateTable | Self::Other => Meaning::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(code: &str) -> Meaning {
        SqlState::from_code(code).meaning()
    }

    #[test]
    fn only_codes_about_the_data_refuse_it() {
        for code in [
            "22021", "22P02", "22P05", "23502", "23505", "23514", "44000", "54000", "54001", "P0001", "P0002", "38001",
            "45000", "SL001",
        ] {
            assert_eq!(meaning(code), Meaning::RefusesData, "{code}");
        }
        for code in ["", "0A000", "21000", "40001", "42P01", "42601", "53100", "57014", "XX000", "XX001"] {
            assert_ne!(meaning(code), Meaning::RefusesData, "{code}");
        }
    }

    #[test]
    fn codes_that_a_repetition_may_pass_are_told_from_lasting_faults() {
        for code in ["40001", "40P01", "55P03"] {
            assert_eq!(meaning(code), Meaning::Conflict, "{code}");
        }
        assert_eq!(meaning("57014"), Meaning::TooSlow);
        for code in ["08006", "25006", "25P03", "25P04", "53200", "53300", "57P01", "57P03"] {
            assert_eq!(meaning(code), Meaning::Unavailable, "{code}");
        }
        for code in ["42P01", "3F000"] {
            assert_eq!(meaning(code), Meaning::MissingTables, "{code}");
        }
        assert_eq!(meaning("53100"), Meaning::DiskFull);
        for code in ["XX001", "XX002"] {
            assert_eq!(meaning(code), Meaning::Damaged, "{code}");
        }
        for code in ["", "42601", "42501", "42P07", "XX000"] {
            assert_eq!(meaning(code), Meaning::Failed, "{code}");
        }
    }
}
