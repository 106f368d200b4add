// Whose certificates are trusted: the system's authorities, or those that a variable names, as curl and Python's clients take them.

import Files
import Glibc

/// The certificate authorities that the environment names. Everything else is libcurl's: the system's.
struct CertificateAuthorities: Sendable {
    /// The file of certificates in PEM form, and the variable that names it.
    let file: (variable: String, path: String)?
    /// The folder of certificates by hash (`openssl rehash`), and the variable that names it.
    let folder: (variable: String, path: String)?
    /// The variables that name something that cannot be read, with what and why.
    let unusable: [String]

    /// The variables in their order: Python's requests, curl, OpenSSL and Python's httpx.
    private static let variables = [
        "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR",
    ]

    /// Reads `environment`: the first variable that names a file that can be read, and the first that names such a folder.
    init(environment: [String: String]) {
        var file: (variable: String, path: String)?
        var folder: (variable: String, path: String)?
        var unusable: [String] = []
        for name in CertificateAuthorities.variables {
            guard let path = environment[name], !path.isEmpty else { continue }
            if !isReadable(path) {
                unusable.append("\(name) names \(path): \(String(cString: strerror(errno)))")
            } else if isDirectory(path) {
                folder = folder ?? (name, path)
            } else {
                file = file ?? (name, path)
            }
        }
        (self.file, self.folder, self.unusable) = (file, folder, unusable)
    }

    /// The variable to name a file in, for messages: one that counts before it would hide another.
    var variable: String { file?.variable ?? "SSL_CERT_FILE" }

    /// What counts, for messages.
    var description: String {
        let named = [file, folder].compactMap { $0 }.map { "\($0.path) (\($0.variable))" }
        let counting =
            named.isEmpty
            ? "the system's authorities count (no SSL_CERT_FILE, CURL_CA_BUNDLE or REQUESTS_CA_BUNDLE names a file that can be read)"
            : "the authorities in \(named.joined(separator: " and in ")) count"
        return counting + unusable.map { "; \($0)" }.joined()
    }
}
