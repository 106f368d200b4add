// Tests of response heads and of the links in them, including invalid heads that a hostile server may send.

import Foundation
import TestSupport
import Testing

@testable import Hub

struct AnswerTests {
    private func head(_ lines: [String]) throws -> HTTPResponse? {
        var head = ResponseHead()
        for line in lines {
            let bytes = Array(line.utf8)
            try bytes.withUnsafeBytes { try head.add($0) }
        }
        return head.response
    }

    @Test func headsAreReadAsTheyCome() throws {
        let whole = try #require(
            try head([
                "HTTP/1.1 103 Early Hints\r\n", "Link: <x>\r\n", "\r\n", "HTTP/1.0 206\r\n",
                "CONTENT-Length:  5 \r\n", "Content-length: 5\n", "A: b\r\n", "a:c:d\r\n",
                "nonsense\r\n", ": none\r\n", "Ä: x\r\n", "\r\n", "Trailer: x\r\n",
                "HTTP/1.1 500 no\r\n", "\r\n",
            ]))
        #expect(whole.status == 206)
        #expect(whole.headers == ["content-length": "5", "a": "b, c:d"])
        #expect(whole["Content-Length"] == "5" && whole["Link"] == nil)
        #expect(try head(["HTTP/1.1 200 OK\r\n", "A: b\r\n"]) == nil)
        #expect(try head(["HTTP/1.1 101 Switch\r\n", "\r\n"])?.status == 101)
    }

    @Test(arguments: [
        ["\r\n"], ["HTTP/1.1\r\n"], ["HTTP/1.1 20 x\r\n"], ["HTTP/1.1 2000 x\r\n"],
        ["HTTP/1.1 ٢٠٠ x\r\n"], ["HTTP/1.1 -10 x\r\n"], ["ICY 200 OK\r\n"],
        ["HTTP/1.1 302 x\r\n", "Location: a\r\n", "location: b\r\n"],
    ]) func headsThatAreNone(lines: [String]) {
        #expect(throws: NetworkFailure.self) { try head(lines) }
    }

    /// Checks that a head with a longer line than 64 kB, or with more than 256 kB in all, is refused.
    @Test func longHeadsAreNone() {
        let line = "X: \(String(repeating: "x", count: 60_000))\r\n"
        let longLine = "X: \(String(repeating: "x", count: 64 << 10))\r\n"
        for lines in [
            ["HTTP/1.1 200 x\r\n", longLine],
            ["HTTP/1.1 200 x\r\n", "\r\n"] + Array(repeating: line, count: 5),
        ] {
            #expect(throws: NetworkFailure.self) { try head(lines) }
        }
    }

    @Test func theNextLinkIsFound() {
        for (field, target) in [
            (#"<a?b=1,2;c>; rel="next""#, "a?b=1,2;c"), ("<a>;rel=next", "a"),
            (#"<a>; rel="prev", <b>; rel="next""#, "b"), (#"<a>; rel="last next""#, "a"),
            (#"<a>; title="x, <y>; rel=\"next\""; rel=last, <b>; rel=next"#, "b"),
            (#"<a>; REL = "NEXT""#, "a"), (#"<a>; rel=last; rel=next"#, nil), ("<a>", nil),
            (#",, <a> ; x ; rel="next" junk, <b>"#, "a"), ("", nil), ("a; rel=next", nil),
            ("<a; rel=next", nil), (#"<a>; rel="next"#, "a"), (#"<a>; rel="next\"#, nil),
        ] as [(String, String?)] {
            #expect(nextLink(field) == target, "\(field)")
        }
        // Malformed fields of the greatest length that a line may have. They must be read quickly.
        for piece in ["<", "<>", "<>;", "<>,", "\"", ";", "<>;=\"", "<a>; rel=\"\\"] {
            let field = String(repeating: piece, count: (64 << 10) / piece.utf8.count)
            let start = ContinuousClock.now
            _ = nextLink(field)
            #expect(ContinuousClock.now - start < .seconds(20), "\(piece)")
        }
    }

    @Test func timesAreTheServersAlone() throws {
        let url = try #require(URL(string: "http://a.test"))
        func request(_ bound: HTTPRequest.Bound, timeout: Double) -> HTTPRequest {
            HTTPRequest(url: url, timeout: timeout, timeoutName: "NAME", bound: bound)
        }
        var silent = ServerTime(request(.time(1000), timeout: 0.05))
        #expect(silent.end(isAnswered: false) == nil)
        let begin = ContinuousClock.now
        Thread.sleep(forTimeInterval: 0.2)
        var busy = silent
        busy.leaveOut(since: begin)
        #expect(busy.end(isAnswered: true) == nil)
        #expect(silent.end(isAnswered: false) == "no answer within 0.05 s (NAME)")
        #expect(silent.end(isAnswered: true) == "no more bytes within 0.05 s (NAME)")
        for (bytes, words) in [
            (1, "less than 100 bytes a second for 0.2 s (4 times NAME)"), (1 << 20, nil),
        ] as [(Int, String?)] {
            var slow = ServerTime(request(.rate(bytes: 100, times: 4), timeout: 0.05))
            Thread.sleep(forTimeInterval: 0.3)
            slow.note(bytes: bytes)
            #expect(slow.end(isAnswered: true) == words)
        }
    }
}
