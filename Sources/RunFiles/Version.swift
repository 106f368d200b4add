// The version of the program, for `--version` and `run.json`.

/// The version of the program: major, minor and patch number.
package let version = "0.1.0"
