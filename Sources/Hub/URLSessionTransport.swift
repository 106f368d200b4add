// The transport of the package's trait Hub, on Foundation's URLSession and thereby libcurl.
#if Hub
    import Foundation
    import FoundationNetworking
    import Synchronization

    /// One session for the life of the process: on Linux, ending one is where URLSession is known to crash.
    final class URLSessionTransport: NSObject, HTTPTransport, URLSessionDataDelegate, Sendable {
        private typealias Body = @Sendable (HTTPResponse, UnsafeRawBufferPointer) throws -> Void

        private struct Exchange {
            let body: Body
            let continuation: CheckedContinuation<HTTPResponse, any Error>
            var response: HTTPResponse?
            var failure: (any Error)?
        }

        private let exchanges = Mutex<[Int: Exchange]>([:])
        private let session = Mutex<URLSession?>(nil)

        /// Made by the first exchange: it keeps its delegate.
        private func urlSession() -> URLSession {
            session.withLock { session in
                if let session { return session }
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
                timeoutInterval: request.timeout)
            urlRequest.httpMethod = request.method
            urlRequest.httpShouldHandleCookies = false
            for (name, value) in request.headers {
                urlRequest.setValue(value, forHTTPHeaderField: name)
            }
            let task = urlSession().dataTask(with: urlRequest)
            return try await withCheckedThrowingContinuation { continuation in
                exchanges.withLock {
                    $0[task.taskIdentifier] = Exchange(body: body, continuation: continuation)
                }
                task.resume()
            }
        }

        func urlSession(
            _ session: URLSession, task: URLSessionTask,
            willPerformHTTPRedirection response: HTTPURLResponse, newRequest request: URLRequest,
            completionHandler: @escaping (URLRequest?) -> Void
        ) {
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
            note(dataTask.response, of: dataTask)
            let exchange = exchanges.withLock { $0[dataTask.taskIdentifier] }
            guard let exchange, exchange.failure == nil, let response = exchange.response else {
                return
            }
            do {
                try data.withUnsafeBytes { try exchange.body(response, $0) }
            } catch {
                exchanges.withLock { $0[dataTask.taskIdentifier]?.failure = error }
                dataTask.cancel()
            }
        }

        func urlSession(
            _ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?
        ) {
            note(task.response, of: task)
            guard
                let exchange = exchanges.withLock({ $0.removeValue(forKey: task.taskIdentifier) })
            else { return }
            if let failure = exchange.failure {
                exchange.continuation.resume(throwing: failure)
            } else if let error {
                exchange.continuation.resume(throwing: URLSessionTransport.failure(error))
            } else if let response = exchange.response {
                exchange.continuation.resume(returning: response)
            } else {
                exchange.continuation.resume(throwing: NetworkFailure(reason: "no HTTP answer"))
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
