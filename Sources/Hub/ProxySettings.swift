// Which proxy libcurl goes through, for messages: its own choice is not to be asked for. After curl's documentation of its
// environment variables (libcurl-env(3)).

import FoundationEssentials

/// The proxies that the environment names.
struct ProxySettings: Sendable {
    private let byScheme: [String: (variable: String, address: String)]
    /// Hosts that are reached without.
    private let exceptions: [String]

    /// Reads `environment`.
    init(environment: [String: String]) {
        func first(_ names: [String]) -> (variable: String, address: String)? {
            for name in names {
                if let text = environment[name], !text.isEmpty {
                    return (name, ProxySettings.withoutPassword(text))
                }
            }
            return nil
        }
        let all = ["all_proxy", "ALL_PROXY"]
        var byScheme: [String: (variable: String, address: String)] = [:]
        // HTTP_PROXY in capitals is what a web server makes of a client's header, and is not taken.
        byScheme["http"] = first(["http_proxy"] + all)
        byScheme["https"] = first(["https_proxy", "HTTPS_PROXY"] + all)
        self.byScheme = byScheme
        let text = environment["no_proxy"] ?? environment["NO_PROXY"] ?? ""
        exceptions =
            text.split { $0 == "," || $0.isWhitespace }.map {
                String($0.drop { $0 == "." }).lowercased()
            } + loopbackHosts
    }

    /// The proxy on the way to `url`, "http://proxy:3128 (https_proxy)"; nil where there is none.
    func proxy(for url: URL) -> String? {
        guard let (variable, address) = byScheme[url.scheme?.lowercased() ?? ""],
            let host = url.host?.lowercased(),
            !exceptions.contains(where: { $0 == "*" || $0 == host || host.hasSuffix("." + $0) })
        else { return nil }
        return "\(address) (\(variable))"
    }

    /// A proxy's address may hold a user's name and password.
    private static func withoutPassword(_ address: String) -> String {
        guard let at = address.lastIndex(of: "@") else { return address }
        let scheme = address.firstRange(of: "://").map { String(address[..<$0.upperBound]) } ?? ""
        return scheme + String(address[address.index(after: at)...])
    }
}
