//! This module raises the errors of the domain as Postgres does, and sends notices. Their texts are
//! made in `pancake::error`.

use pancake::error::{Error, Kind};
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgLogLevel, PgSqlErrorCode, PgTryBuilder};

pub trait OrRaise<T> {
    /// The value, or the statement ends with the error.
    fn or_raise(self) -> T;
}

impl<T> OrRaise<T> for Result<T, Error> {
    fn or_raise(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => raise(&error),
        }
    }
}

/// Ends the statement. Postgres's own machinery unwinds; destructors run.
pub fn raise(error: &Error) -> ! {
    let mut report = ErrorReport::new(code(error.kind()), error.message().to_owned(), "pancake_fdw");
    if let Some(detail) = error.detail_text() {
        report = report.set_detail(detail);
    }
    if let Some(hint) = error.hint_text() {
        report = report.set_hint(hint);
    }
    report.report(PgLogLevel::ERROR);
    unreachable!("ERROR does not return")
}

/// Calls `with`, and raises another error instead of one of this code, made of its message.
pub fn replacing<T>(code: PgSqlErrorCode, with: impl FnOnce() -> T, other: impl Fn(&str) -> Error) -> T {
    // Either the value is returned, or the statement ends with an error.
    let other = AssertUnwindSafe(other);
    let replace = |caught: CaughtError| match &caught {
        CaughtError::PostgresError(error) => {
            let other = &other;
            raise(&other(error.message()))
        }
        _ => caught.rethrow(),
    };
    PgTryBuilder::new(AssertUnwindSafe(with)).catch_when(code, replace).execute()
}

/// Sends a NOTICE.
pub fn notice(message: String) {
    let code = PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION;
    ErrorReport::new(code, message, "pancake_fdw").report(PgLogLevel::NOTICE);
}

/// Sends a WARNING.
pub fn warning(message: String, detail: String, hint: String) {
    let code = PgSqlErrorCode::ERRCODE_WARNING;
    ErrorReport::new(code, message, "pancake_fdw")
        .set_detail(detail)
        .set_hint(hint)
        .report(PgLogLevel::WARNING);
}

fn code(kind: Kind) -> PgSqlErrorCode {
    match kind {
        Kind::UnknownOption => PgSqlErrorCode::ERRCODE_FDW_INVALID_OPTION_NAME,
        Kind::MissingOption => PgSqlErrorCode::ERRCODE_FDW_OPTION_NAME_NOT_FOUND,
        Kind::BadOption => PgSqlErrorCode::ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE,
        Kind::NoToken | Kind::TokenRefused => PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
        Kind::PageRefused | Kind::NotPermitted => PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        Kind::PageNotFound => PgSqlErrorCode::ERRCODE_FDW_TABLE_NOT_FOUND,
        Kind::Unreachable => PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION,
        Kind::ServerFault => PgSqlErrorCode::ERRCODE_FDW_UNABLE_TO_CREATE_REPLY,
        Kind::Throttled => PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        Kind::NotUnderstood => PgSqlErrorCode::ERRCODE_FDW_ERROR,
        Kind::BadCell => PgSqlErrorCode::ERRCODE_FDW_INVALID_DATA_TYPE,
        Kind::BadDefinition => PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION,
        Kind::NoConversation => PgSqlErrorCode::ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED,
        Kind::NoSharedMemory => PgSqlErrorCode::ERRCODE_IO_ERROR,
        Kind::OutOfMemory => PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
        Kind::NotInTransaction => PgSqlErrorCode::ERRCODE_INVALID_TRANSACTION_TERMINATION,
        Kind::NullArgument => PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
        Kind::BadArgument => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        Kind::BadName => PgSqlErrorCode::ERRCODE_INVALID_NAME,
        Kind::WrongObject => PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
        Kind::NotSupported => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        Kind::NoSuchTable => PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
        Kind::NoSuchColumn => PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
        Kind::BadColumnType => PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
        Kind::NoUniqueKey => PgSqlErrorCode::ERRCODE_INVALID_COLUMN_REFERENCE,
        Kind::WrongState => PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        Kind::RowConflict => PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
    }
}
