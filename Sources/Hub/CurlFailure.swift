// Translates libcurl's errors into reasons and advice for the user.
#if Hub
    import CCurl
    import FoundationEssentials

    /// The failure of a transfer, as libcurl reports it.
    struct CurlFailure {
        /// libcurl's error code (CURLcode).
        let code: Int32
        /// libcurl's error text, without passwords.
        let words: String
        /// The status of the proxy's response to CONNECT; 0 if no proxy has responded to CONNECT.
        let connectStatus: Int
        /// Whether the head of the response was received before the failure.
        let isAnswered: Bool

        /// Returns the failure to report for `request`, which went through `proxy` and trusted `authorities`.
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
                return NetworkFailure(reason: "the host name cannot be resolved (\(words))")
            case CURLE_COULDNT_RESOLVE_PROXY:
                return NetworkFailure(
                    reason: "the host name of the proxy cannot be resolved (\(words))")
            case CURLE_COULDNT_CONNECT: return NetworkFailure(reason: "no connection (\(words))")
            case CURLE_PARTIAL_FILE, CURLE_GOT_NOTHING, CURLE_SEND_ERROR, CURLE_RECV_ERROR:
                return NetworkFailure(reason: "the connection was lost (\(words))")
            case CURLE_WEIRD_SERVER_REPLY: return noHTTP
            case CURLE_UNSUPPORTED_PROTOCOL where words.contains("HTTP/0.9"): return noHTTP
            // CURLE_TOO_LARGE: a header line is too long for libcurl. Old versions of libcurl report
            // CURLE_OUT_OF_MEMORY instead.
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

        /// Returns the failure to report if the proxy refused the connection; nil if it did not.
        private func proxyRefusal(_ proxy: ProxySettings.Proxy?) -> NetworkFailure? {
            guard let proxy, connectStatus >= 300 else { return nil }
            guard connectStatus == 407 else {
                return NetworkFailure(
                    reason: "the proxy refuses to connect to this host (\(connectStatus))",
                    isTransient: connectStatus >= 500)
            }
            return NetworkFailure(
                reason:
                    "the proxy requires a user name and a password (407); set \(proxy.variable)=http://USER:PASSWORD@HOST:PORT",
                isTransient: false)
        }

        /// Returns advice for a TLS failure; nil for any other failure. `words` is the error text of libcurl and its
        /// TLS library, in lower case.
        private func certificateAdvice(
            _ words: String, _ authorities: CertificateAuthorities
        ) -> String? {
            func has(_ parts: String...) -> Bool { parts.contains(where: words.contains) }
            if has(
                "verify locations", "trust anchors", "setting certificate file",
                "setting certificate path")
            {
                return
                    "the trusted certificates cannot be read; \(authorities.description). Correct or unset the variable that names them"
            }
            if has("wrong version number", "packet length too long", "unknown protocol") {
                return
                    "the server does not speak TLS; write http instead of https in its address, or correct the port"
            }
            guard has("certificate") else { return nil }
            if has("expired", "not yet valid") {
                return
                    "check this machine's date and time; if they are right, the operator of the server must renew its certificate"
            }
            if has("subject name", "does not match") {
                return
                    "the certificate belongs to another host; a proxy or a login page may have answered in place of the server"
            }
            return
                "\(authorities.description); if your network has its own certificate authority, set \(authorities.variable) to the file with its certificate (PEM), or add the certificate to the system's (as root: update-ca-certificates)"
        }
    }
#endif
