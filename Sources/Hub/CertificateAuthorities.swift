// Finds the certificate authorities to trust: the system's, or those that an environment variable names. The
// variables are those of curl and of Python's HTTP clients.

import Files
import Glibc

/// The certificate authorities that the environment names. If it names none, libcurl trusts the system's authorities.
struct CertificateAuthorities: Sendable {
    /// The file of certificates (PEM), and the variable that names it. Nil if no variable names a readable file.
    let file: (variable: String, path: String)?
    /// The folder of certificates, made by `openssl rehash`, and the variable that names it. Nil if no variable names
    /// a readable folder.
    let folder: (variable: String, path: String)?
    /// One text for each variable that names an unreadable file or folder: the variable, the path and the reason.
    let unusable: [String]

    /// The variables in order of precedence. The first is that of Python's requests, the second is curl's, and the
    /// others are those of OpenSSL and Python's httpx.
    private static let variables = [
        "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR",
    ]

    /// Takes the first variable in `environment` that names a readable file, and the first variable that names a
    /// readable folder.
    init(environment: [String: String]) {
        var file: (variable: String, path: String)?
        var folder: (variable: String, path: String)?
        var unusable: [String] = []
        for name in CertificateAuthorities.variables {
            guard let path = environment[name], !path.isEmpty else { continue }
            if !isReadable(path) {
                unusable.append(
                    "\(name) names \(path), which cannot be read: \(String(cString: strerror(errno)))"
                )
            } else if isDirectory(path) {
                folder = folder ?? (name, path)
            } else {
                file = file ?? (name, path)
            }
        }
        (self.file, self.folder, self.unusable) = (file, folder, unusable)
    }

    /// The variable that messages tell the user to set: the variable that names `file`, because later variables have
    /// no effect. If `file` is nil, it is `SSL_CERT_FILE`.
    var variable: String { file?.variable ?? "SSL_CERT_FILE" }

    /// For messages: which authorities are trusted, and which variables name unreadable files or folders.
    var description: String {
        let named = [file, folder].compactMap { $0 }.map { "\($0.path) (\($0.variable))" }
        let counting =
            named.isEmpty
            ? "the system's certificate authorities are trusted, because none of SSL_CERT_FILE, CURL_CA_BUNDLE and REQUESTS_CA_BUNDLE names a readable file"
            : "the certificate authorities in \(named.joined(separator: " and in ")) are trusted"
        return counting + unusable.map { "; \($0)" }.joined()
    }
}
