// Translates libcurl's failures into what they mean and what a user can do about them.
#if Hub
    import CCurl
    import FoundationEssentials

    /// The failure of a transfer, as libcurl reports it.
    struct CurlFailure {
        /// A CURLcode.
        let code: Int32
        /// libcurl's error text, without passwords.
        let words: String
        /// The status with which a proxy answered CONNECT; 0 if no proxy answered it.
        let connectStatus: Int
        /// Whether the answer's head had come.
        let isAnswered: Bool

        /// Returns what the failure means for `request`, which went through `proxy` and trusted `authorities`.
        func meaning(
            _ request: HTTPRequest, _ proxy: ProxySettings.Proxy?,
            _ authorities: CertificateAuthorities
        ) -> NetworkFailure {
            if let refusal = proxyRefusal(proxy) { return refusal }
            switch curl_code(UInt32(bitPattern: code)) {
            case CURLE_OPERATION_TIMEDOUT:
                return NetworkFailure(
                    reason: ServerTime(request).silence(isAnswered: isAnswered))
            case CURLE_COULDNT_RESOLVE_HOST:
                return NetworkFailure(reason: "the host's name is not known (\(words))")
            case CURLE_COULDNT_RESOLVE_PROXY:
                return NetworkFailure(reason: "the proxy's name is not known (\(words))")
            case CURLE_COULDNT_CONNECT: return NetworkFailure(reason: "no connection (\(words))")
            case CURLE_PARTIAL_FILE, CURLE_GOT_NOTHING, CURLE_SEND_ERROR, CURLE_RECV_ERROR:
                return NetworkFailure(reason: "the connection was lost (\(words))")
            case CURLE_WEIRD_SERVER_REPLY: return noHTTP
            case CURLE_UNSUPPORTED_PROTOCOL where words.contains("HTTP/0.9"): return noHTTP
            // libcurl does not store a line of a head that is too long. Old versions report that as a lack of memory.
            case CURLE_TOO_LARGE: return ResponseHead.tooLong
            case CURLE_OUT_OF_MEMORY where !isAnswered: return ResponseHead.tooLong
            default:
                guard let advice = certificateAdvice(words.lowercased(), authorities) else {
                    return NetworkFailure(reason: words)
                }
                return NetworkFailure(reason: "\(words): \(advice)", isTransient: false)
            }
        }

        private var noHTTP: NetworkFailure {
            NetworkFailure(reason: "the answer is not HTTP (\(words))")
        }

        /// The failure if the proxy refused the connection; nil if it did not.
        private func proxyRefusal(_ proxy: ProxySettings.Proxy?) -> NetworkFailure? {
            guard let proxy, connectStatus >= 300 else { return nil }
            guard connectStatus == 407 else {
                return NetworkFailure(
                    reason: "the proxy does not connect to it (\(connectStatus))",
                    isTransient: connectStatus >= 500)
            }
            return NetworkFailure(
                reason:
                    "the proxy wants a user and a password (407): give them in its address, \(proxy.variable)=http://USER:PASSWORD@HOST:PORT",
                isTransient: false)
        }

        /// Returns what to do about a failure of TLS. `words` is libcurl's error text in lower case, which holds the TLS
        /// library's text. Nil if it is about something else.
        private func certificateAdvice(
            _ words: String, _ authorities: CertificateAuthorities
        ) -> String? {
            func has(_ parts: String...) -> Bool { parts.contains(where: words.contains) }
            if has(
                "verify locations", "trust anchors", "setting certificate file",
                "setting certificate path")
            {
                return
                    "the certificates cannot be read; \(authorities.description). Correct or unset that variable"
            }
            if has("wrong version number", "packet length too long", "unknown protocol") {
                return
                    "the server does not speak TLS: give http instead of https, or the right port"
            }
            guard has("certificate") else { return nil }
            if has("expired", "not yet valid") {
                return "check this machine's date and time, and whether that certificate is renewed"
            }
            if has("subject name", "does not match") {
                return
                    "the certificate is another host's: a proxy or a login page may answer in its place"
            }
            return
                "\(authorities.description); if your network has its own certificate authority, name the file that has its certificate (PEM) in \(authorities.variable), or add it to the system's (update-ca-certificates, as root)"
        }
    }
#endif
