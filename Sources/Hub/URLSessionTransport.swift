// The transport of the package's trait Hub, on Foundation's URLSession and thereby libcurl.
#if Hub
    import CCurlAuthorities
    import Foundation
    import FoundationNetworking
    import Glibc
    import Synchronization

    /// One session for the life of the process: on Linux, ending one is where URLSession is known to crash.
    final class URLSessionTransport: NSObject, HTTPTransport, URLSessionDataDelegate, Sendable {
        private typealias Body = @Sendable (HTTPResponse, UnsafeRawBufferPointer) throws -> Void

        private struct Exchange {
            let body: Body
            let continuation: CheckedContinuation<HTTPResponse, any Error>
            let start = ContinuousClock.now
            var lastSign = ContinuousClock.now
            /// Whether a piece of the body is with whoever wanted it.
            var isBusy = false
            var response: HTTPResponse?
        }

        /// Whether libcurl can be loaded. Where it is linked it is loaded already; an installed program looks for it at its
        /// first request (scripts/curl-shim.c).
        static var isPossible: Bool { dlopen("libcurl.so.4", RTLD_LAZY) != nil }

        private let exchanges = Mutex<[Int: Exchange]>([:])
        /// The tasks that were answered by a redirect.
        private let redirected = Mutex<Set<Int>>([])
        private let session = Mutex<URLSession?>(nil)
        private let authorities: CertificateAuthorities

        /// A transport that trusts `authorities`, as all of this process' then do.
        init(_ authorities: CertificateAuthorities) {
            self.authorities = authorities
        }

        /// Made by the first exchange: it keeps its delegate.
        private func urlSession() -> URLSession {
            session.withLock { session in
                if let session { return session }
                prepareEnvironment()
                trust_authorities(authorities.file?.path, authorities.folder?.path)
                let configuration = URLSessionConfiguration.ephemeral
                configuration.urlCache = nil
                configuration.httpCookieStorage = nil
                configuration.httpShouldSetCookies = false
                configuration.httpMaximumConnectionsPerHost = 16
                let made = URLSession(
                    configuration: configuration, delegate: self, delegateQueue: nil)
                session = made
                return made
            }
        }

        func send(
            _ request: HTTPRequest,
            body: @escaping @Sendable (HTTPResponse, UnsafeRawBufferPointer) throws -> Void
        ) async throws -> HTTPResponse {
            var urlRequest = URLRequest(
                url: request.url, cachePolicy: .reloadIgnoringLocalCacheData,
                timeoutInterval: 86400)
            urlRequest.httpMethod = request.method
            urlRequest.httpShouldHandleCookies = false
            for (name, value) in request.headers {
                urlRequest.setValue(value, forHTTPHeaderField: name)
            }
            let task = urlSession().dataTask(with: urlRequest)
            let watch = Task { try await self.watch(task, request) }
            defer { watch.cancel() }
            return try await withTaskCancellationHandler {
                try await withCheckedThrowingContinuation { continuation in
                    exchanges.withLock {
                        $0[task.taskIdentifier] = Exchange(body: body, continuation: continuation)
                    }
                    task.resume()
                    // A cancellation before the exchange was entered has found nothing.
                    if Task.isCancelled { end(task, .failure(CancellationError())) }
                }
            } onCancel: {
                end(task, .failure(CancellationError()))
            }
        }

        /// Ends `task` when nothing has come for too long. URLSession's own time-out does not on Linux: its timer begins anew
        /// whenever the socket can be written to, which is always.
        private func watch(_ task: URLSessionDataTask, _ request: HTTPRequest) async throws {
            while true {
                try await Task.sleep(for: .seconds(min(0.25, request.timeout / 4)))
                let name = request.timeoutName
                let reason = exchanges.withLock { exchanges -> String? in
                    guard !exchanges.values.contains(where: \.isBusy),
                        let exchange = exchanges[task.taskIdentifier]
                    else { return nil }
                    let now = ContinuousClock.now
                    if now - exchange.lastSign > .seconds(request.timeout) {
                        return
                            "\(exchange.response == nil ? "no answer" : "no more bytes") within \(shortDecimals(request.timeout)) s (\(name))"
                    }
                    guard let limit = request.limit, now - exchange.start > .seconds(limit) else {
                        return nil
                    }
                    return
                        "no end of the answer within \(shortDecimals(limit)) s (\(shortDecimals(limit / request.timeout)) times \(name))"
                }
                if let reason {
                    end(task, .failure(NetworkFailure(reason: reason)))
                    return
                }
            }
        }

        /// Ends the exchange, if it has not ended, whatever URLSession says of it later.
        private func end(_ task: URLSessionTask, _ result: Result<HTTPResponse, any Error>) {
            let exchange = exchanges.withLock { $0.removeValue(forKey: task.taskIdentifier) }
            guard let exchange else { return }
            if case .failure = result { stop(task, isAnswered: exchange.response != nil) }
            exchange.continuation.resume(with: result)
        }

        /// Cancels `task`, but not while a redirect may be on its way through URLSession: on Linux that ends the process. One
        /// that has not been answered is given time for it to come or not.
        private func stop(_ task: URLSessionTask, isAnswered: Bool) {
            let cancel: @Sendable () -> Void = { [self] in
                if !redirected.withLock({ $0.contains(task.taskIdentifier) }) { task.cancel() }
            }
            if isAnswered {
                cancel()
            } else {
                DispatchQueue.global().asyncAfter(deadline: .now() + 2, execute: cancel)
            }
        }

        /// What libcurl and URLSession take from the environment and should not: a proxy before this machine, which would see
        /// what is meant to stay on it, and a protocol of all requests with their headers.
        private func prepareEnvironment() {
            unsetenv("URLSessionDebugLibcurl")
            let environment = ProcessInfo.processInfo.environment
            let known = environment["no_proxy"] ?? environment["NO_PROXY"] ?? ""
            guard known != "*" else { return }
            let hosts = (known.isEmpty ? [] : [known]) + loopbackHosts
            setenv("no_proxy", hosts.joined(separator: ","), 1)
        }

        func urlSession(
            _ session: URLSession, task: URLSessionTask,
            willPerformHTTPRedirection response: HTTPURLResponse, newRequest request: URLRequest,
            completionHandler: @escaping (URLRequest?) -> Void
        ) {
            _ = redirected.withLock { $0.insert(task.taskIdentifier) }
            completionHandler(nil)
        }

        func urlSession(
            _ session: URLSession, dataTask: URLSessionDataTask, didReceive response: URLResponse,
            completionHandler: @escaping (URLSession.ResponseDisposition) -> Void
        ) {
            note(response, of: dataTask)
            completionHandler(.allow)
        }

        func urlSession(
            _ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data
        ) {
            let begin = ContinuousClock.now
            note(dataTask.response, of: dataTask)
            let exchange = exchanges.withLock {
                let exchange = $0[dataTask.taskIdentifier]
                if exchange?.response != nil { $0[dataTask.taskIdentifier]?.isBusy = true }
                return exchange
            }
            guard let exchange, let response = exchange.response else {
                // Given up, and answered after all.
                if exchange == nil { stop(dataTask, isAnswered: true) }
                return
            }
            do {
                try data.withUnsafeBytes { try exchange.body(response, $0) }
            } catch {
                end(dataTask, .failure(error))
            }
            exchanges.withLock { exchanges in
                let now = ContinuousClock.now
                exchanges[dataTask.taskIdentifier]?.isBusy = false
                exchanges[dataTask.taskIdentifier]?.lastSign = now
                // A slow disk has kept the others' bytes waiting too.
                if now - begin > .seconds(0.5) {
                    for identifier in exchanges.keys { exchanges[identifier]!.lastSign = now }
                }
            }
        }

        func urlSession(
            _ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?
        ) {
            note(task.response, of: task)
            let response = exchanges.withLock { $0[task.taskIdentifier]?.response }
            if let error {
                end(task, .failure(failure(error)))
            } else if let response {
                end(task, .success(response))
            } else {
                end(task, .failure(NetworkFailure(reason: "no HTTP answer")))
            }
        }

        private func note(_ response: URLResponse?, of task: URLSessionTask) {
            guard let response = response as? HTTPURLResponse else { return }
            exchanges.withLock {
                guard $0[task.taskIdentifier]?.response == nil else { return }
                var headers: [String: String] = [:]
                for (name, value) in response.allHeaderFields {
                    headers["\(name)".lowercased()] = "\(value)"
                }
                $0[task.taskIdentifier]?.lastSign = .now
                $0[task.taskIdentifier]?.response = HTTPResponse(
                    status: response.statusCode, headers: headers)
            }
        }

        private func failure(_ error: any Error) -> NetworkFailure {
            let words = error.localizedDescription
            guard let error = error as? URLError else { return NetworkFailure(reason: words) }
            switch error.code {
            case .timedOut: return NetworkFailure(reason: "no answer in time")
            case .cannotFindHost, .dnsLookupFailed:
                return NetworkFailure(reason: "the host's name is not known (\(words))")
            case .cannotConnectToHost: return NetworkFailure(reason: "no connection (\(words))")
            case .networkConnectionLost:
                return NetworkFailure(reason: "the connection was lost (\(words))")
            default:
                // URLSession has no codes of its own for what libcurl says of TLS.
                guard let advice = certificateAdvice(words.lowercased()) else {
                    return NetworkFailure(reason: words)
                }
                return NetworkFailure(reason: "\(words): \(advice)", isTransient: false)
            }
        }

        /// What to do about a failure of TLS, by libcurl's words in lower case; nil where they are of something else.
        private func certificateAdvice(_ words: String) -> String? {
            func has(_ parts: String...) -> Bool { parts.contains(where: words.contains) }
            if has(
                "verify locations", "trust anchors", "setting certificate file",
                "setting certificate path")
            {
                return
                    "the certificates cannot be read; \(authorities.description). Correct or unset that variable"
            }
            if has("wrong version number", "packet length too long", "unknown protocol") {
                return "no TLS is spoken there: give http instead of https, or the right port"
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
                "\(authorities.description); if your network has a certificate authority of its own, name the file that has its certificate (PEM) in \(authorities.variable), or add it to the system's (update-ca-certificates, as root)"
        }
    }

    /// `number` without a fraction that is zero.
    private func shortDecimals(_ number: Double) -> String {
        number == number.rounded() && number < 1e9 ? "\(Int(number))" : "\(number)"
    }
#endif
