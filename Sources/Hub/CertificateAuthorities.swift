// Which certificate authorities are trusted: the system's, or those that a variable names. The variables are those of curl and of
// Python's clients.

import Files
import Glibc

/// The certificate authorities that the environment names. If it names none, libcurl uses its default, the system's authorities.
struct CertificateAuthorities: Sendable {
    /// The file of certificates in PEM form, and the variable that names it; nil if no variable names a readable file.
    let file: (variable: String, path: String)?
    /// The folder of certificates by hash (`openssl rehash`), and the variable that names it; nil if no variable names a readable
    /// folder.
    let folder: (variable: String, path: String)?
    /// One text for each variable that names something unreadable: the variable, the path and the reason.
    let unusable: [String]

    /// The variables in order of precedence: those of Python's requests, of curl, and of OpenSSL and Python's httpx.
    private static let variables = [
        "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR",
    ]

    /// Takes the first variable in `environment` that names a readable file, and the first that names a readable folder.
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

    /// The variable that messages tell the user to set. If one is in use already, it is that one, because it hides those that
    /// come later.
    var variable: String { file?.variable ?? "SSL_CERT_FILE" }

    /// Says which authorities are trusted and which variables cannot be used, for messages.
    var description: String {
        let named = [file, folder].compactMap { $0 }.map { "\($0.path) (\($0.variable))" }
        let counting =
            named.isEmpty
            ? "the system's authorities are trusted (no SSL_CERT_FILE, CURL_CA_BUNDLE or REQUESTS_CA_BUNDLE names a file that can be read)"
            : "the authorities in \(named.joined(separator: " and in ")) are trusted"
        return counting + unusable.map { "; \($0)" }.joined()
    }
}
