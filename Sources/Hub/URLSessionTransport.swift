// The transport of the package's trait Hub, on Foundation's URLSession and thereby libcurl.
#if Hub
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

        /// Made by the first exchange: it keeps its delegate.
        private func urlSession() -> URLSession {
            session.withLock { session in
                if let session { return session }
                prepareEnvironment()
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
                let isOver = exchanges.withLock { exchanges -> Bool in
                    guard !exchanges.values.contains(where: \.isBusy),
                        let exchange = exchanges[task.taskIdentifier]
                    else { return false }
                    let now = ContinuousClock.now
                    return now - exchange.lastSign > .seconds(request.timeout)
                        || request.limit.map { now - exchange.start > .seconds($0) } ?? false
                }
                if isOver {
                    end(task, .failure(NetworkFailure(reason: "no answer in time")))
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
                end(task, .failure(URLSessionTransport.failure(error)))
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

        private static func failure(_ error: any Error) -> NetworkFailure {
            let words = error.localizedDescription
            guard let error = error as? URLError else { return NetworkFailure(reason: words) }
            return switch error.code {
            case .timedOut: NetworkFailure(reason: "no answer in time")
            case .cannotFindHost, .dnsLookupFailed:
                NetworkFailure(reason: "the host's name is not known (\(words))")
            case .cannotConnectToHost: NetworkFailure(reason: "no connection (\(words))")
            case .networkConnectionLost:
                NetworkFailure(reason: "the connection was lost (\(words))")
            default:
                // URLSession has no code of its own for what libcurl says of certificates.
                if words.contains("certificate") {
                    NetworkFailure(
                        reason:
                            "\(words): if your network has a certificate authority of its own, add it to the system's (update-ca-certificates)",
                        isTransient: false)
                } else {
                    NetworkFailure(reason: words)
                }
            }
        }
    }
#endif
