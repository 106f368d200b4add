// A server that sends exactly the bytes that a test gives, even if they are not valid HTTP. Also an HTTP proxy.

import Foundation
import Synchronization

/// A server on loopback with one thread per connection.
package final class RawServer: Sendable {
    /// The connection of one client.
    package final class Connection: Sendable {
        fileprivate let descriptor: Int32
        private let server: RawServer

        fileprivate init(_ descriptor: Int32, _ server: RawServer) {
            (self.descriptor, self.server) = (descriptor, server)
        }

        /// Sends `bytes`. Returns false if the client has closed the connection.
        @discardableResult
        package func send(_ bytes: some Sequence<UInt8>) -> Bool {
            let bytes = Array(bytes)
            guard RawServer.send(bytes[...], to: descriptor) else { return false }
            server.count.add(bytes.count, ordering: .relaxed)
            return true
        }

        /// Sends `text` as UTF-8. Returns false if the client has closed the connection.
        @discardableResult
        package func send(_ text: String) -> Bool { send(text.utf8) }

        /// Sends `bytes` again and again, with a pause of `pause` seconds. Ends when the client disconnects or
        /// `limit` seconds have passed.
        package func repeating(
            _ bytes: some Sequence<UInt8>, every pause: Double = 0, limit: Double
        ) {
            let bytes = Array(bytes)
            let end = Date() + limit
            while Date() < end, send(bytes) {
                if pause > 0 { Thread.sleep(forTimeInterval: pause) }
            }
        }

        /// Reads the head of a request, up to and including the empty line. Nil if the client disconnects before that
        /// line.
        fileprivate func head() -> String? {
            var bytes: [UInt8] = []
            var byte: UInt8 = 0
            while !bytes.suffix(4).elementsEqual([13, 10, 13, 10]) {
                guard recv(descriptor, &byte, 1, 0) == 1 else { return nil }
                bytes.append(byte)
            }
            return String(decoding: bytes, as: UTF8.self)
        }
    }

    /// The TCP port on 127.0.0.1.
    package let port: UInt16
    private let listener: Int32
    fileprivate let count = Atomic(0)
    private let heads = Mutex<[String]>([])

    /// The server's URL, for `HF_ENDPOINT`.
    package var endpoint: String { "http://127.0.0.1:\(port)" }

    /// The number of bytes that the server has sent so far, over all connections.
    package var sent: Int { count.load(ordering: .relaxed) }

    /// The heads of the requests that have arrived so far, oldest first.
    package var requests: [String] { heads.withLock { $0 } }

    /// Starts the server. It calls `answer` with the head of each request, on the thread of the connection. If
    /// `answer` returns true, the connection stays open for the next request. Otherwise it is closed.
    package init(_ answer: @escaping @Sendable (String, Connection) -> Bool) throws {
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isListening = withUnsafeMutablePointer(to: &address) { [listener] pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, size) == 0 && listen(listener, 128) == 0
                    && getsockname(listener, $0, &size) == 0
            }
        }
        port = UInt16(bigEndian: address.sin_port)
        guard isListening else { throw POSIXError(.init(rawValue: errno) ?? .EIO) }
        Thread.detachNewThread { [listener, weak self] in
            while true {
                let descriptor = accept(listener, nil, nil)
                guard descriptor >= 0, let server = self else { return }
                _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
                Thread.detachNewThread {
                    let connection = Connection(descriptor, server)
                    while let head = connection.head() {
                        server.heads.withLock { $0.append(head) }
                        guard answer(head, connection) else { break }
                    }
                    shutdown(descriptor, Int32(SHUT_RDWR))
                    close(descriptor)
                }
            }
        }
    }

    /// Starts an HTTP proxy for the method CONNECT. `ports` maps host names to ports on 127.0.0.1. The proxy ignores
    /// the port in a request. It answers other hosts and other methods with status 403.
    package static func proxy(to ports: [String: UInt16]) throws -> RawServer {
        try RawServer { head, connection in
            let words = head.split(separator: " ")
            guard words.count > 1, words[0] == "CONNECT",
                let port = ports[String(words[1].prefix { $0 != ":" })]
            else {
                connection.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return false
            }
            connection.send(
                "HTTP/1.1 200 Connection established\r\nProxy-Agent: test\r\nContent-Type: text/proxy\r\n\r\n"
            )
            tunnel(connection.descriptor, port)
            return false
        }
    }

    /// Sends `bytes`. Returns false if the other end has closed the connection.
    private static func send(_ bytes: ArraySlice<UInt8>, to descriptor: Int32) -> Bool {
        var rest = bytes
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }

    /// Copies bytes in both directions between `client` and the server at `port`, until one of them disconnects.
    private static func tunnel(_ client: Int32, _ port: UInt16) {
        let server = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        defer { close(server) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        address.sin_port = port.bigEndian
        let isConnected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(server, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
        guard isConnected else { return }
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            var ends = [client, server].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            guard poll(&ends, 2, -1) > 0 else { return }
            for (index, end) in ends.enumerated() where end.revents != 0 {
                let count = recv(end.fd, &buffer, buffer.count, 0)
                guard count > 0 else { return }
                guard send(buffer[..<count], to: ends[1 - index].fd) else { return }
            }
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }
}
