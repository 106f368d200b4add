// A log handler that writes to standard error.

import Logging

/// Writes log lines to standard error. A line begins with its level, except at level `info`.
struct StandardErrorLog: LogHandler {
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]
    private let prefix: String

    init(level: Logger.Level, prefix: String = "") {
        logLevel = level
        self.prefix = prefix
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let level = event.level == .info ? "" : "\(event.level): "
        let message = SettingSource.named(in: "\(event.message)")
        writeErrorLine("\(prefix)\(level)\(message)")
    }
}
