// Tests of the environment variables for proxies, certificates and the cache. Also tests of how addresses are
// encoded, and of the proof that a file has the content that the Hub lists.

import Crypto
import Foundation
import TestSupport
import Testing

@testable import Hub

struct EnvironmentTests {
    @Test func theProxyOnTheWayIsKnown() throws {
        func proxy(_ url: String, _ environment: [String: String]) throws -> String? {
            ProxySettings(environment: environment).proxy(for: try #require(URL(string: url)))?
                .description
        }
        for (environment, url, expected) in [
            (["https_proxy": "http://p:3128"], "https://a.test", "http://p:3128 (https_proxy)"),
            (["https_proxy": "http://p:3128"], "http://a.test", nil),
            (["HTTPS_PROXY": "p"], "https://a.test", "p (HTTPS_PROXY)"),
            // Only `http_proxy` in lower case counts. A web server may set HTTP_PROXY from a header of its client.
            (["HTTP_PROXY": "p"], "http://a.test", nil),
            (["http_proxy": "p", "all_proxy": "q"], "http://a.test", "p (http_proxy)"),
            (["ALL_PROXY": "q"], "http://a.test", "q (ALL_PROXY)"),
            (["https_proxy": ""], "https://a.test", nil),
            (["https_proxy": "p", "no_proxy": ".test"], "https://a.test", nil),
            (["https_proxy": "p", "no_proxy": "b.test, a.test"], "https://a.test", nil),
            (["https_proxy": "p", "NO_PROXY": "*"], "https://a.test", nil),
            (["https_proxy": "p", "no_proxy": "est"], "https://a.test", "p (https_proxy)"),
            (["https_proxy": "p"], "https://127.0.0.1:4", nil),
            (["https_proxy": "http://me:word@p:1"], "https://a.test", "http://p:1 (https_proxy)"),
            (["https_proxy": "me:word@p:1"], "https://a.test", "p:1 (https_proxy)"),
            (["https_proxy": "http://me:w@rd@p:1/"], "https://a.test", "http://p:1 (https_proxy)"),
            (["https_proxy": "http://p:1/a/b"], "https://a.test", "http://p:1 (https_proxy)"),
            (["https_proxy": "foo://p:1"], "https://a.test", "in https_proxy"),
            (["https_proxy": "SOCKS5h://p"], "https://a.test", "SOCKS5h://p (https_proxy)"),
            (["https_proxy": "p", "no_proxy": "", "NO_PROXY": "a.test"], "https://a.test", nil),
            (["https_proxy": "http://me:word%40p:1"], "https://a.test", "in https_proxy"),
            (["https_proxy": "me:word"], "https://a.test", "in https_proxy"),
            (["https_proxy": "me:w://rd@p:1"], "https://a.test", "p:1 (https_proxy)"),
            (
                ["https_proxy": "http://[::1]:3128"], "https://a.test",
                "http://[::1]:3128 (https_proxy)"
            ),
            (["https_proxy": "p", "no_proxy": "10.0.0.0/8"], "https://10.200.3.4", nil),
            (
                ["https_proxy": "p", "no_proxy": "10.0.0.0/8"], "https://11.0.0.1",
                "p (https_proxy)"
            ),
            (
                ["https_proxy": "p", "no_proxy": "10.0.0.0/99"], "https://10.0.0.1",
                "p (https_proxy)"
            ),
            (["https_proxy": "p", "no_proxy": "fd00::/8"], "https://[fd12::7]:443", nil),
            (["https_proxy": "p", "no_proxy": "[::2]"], "https://[0:0::2]", nil),
            (["https_proxy": "p"], "https://[::1]", nil),
        ] as [([String: String], String, String?)] {
            #expect(try proxy(url, environment) == expected, "\(environment) \(url)")
        }
    }

    /// Checks that percent-encoded parts of an address are not encoded again. Otherwise a signature in the address
    /// would be wrong.
    @Test func addressesAreEncodedOnce() {
        #expect(addressText("/next?x=a|b\"c%2Fd é") == "/next?x=a%7Cb%22c%2Fd%20%C3%A9")
        #expect(addressText("https://a.test:1/b?c=d&e=%41#f") == "https://a.test:1/b?c=d&e=%41#f")
    }

    @Test func passwordsOfProxiesAreKnownAndLeftOut() throws {
        let settings = ProxySettings(environment: [
            "http_proxy": "http://m%65:p%40ss%2fw@p:1", "https_proxy": "hidden:word",
        ])
        let url = try #require(URL(string: "http://a.test"))
        let proxy = try #require(settings.proxy(for: url))
        #expect(proxy.user == Array("me".utf8) && proxy.password == Array("p@ss/w".utf8))
        #expect(
            settings.redacted("a p@ss/w b p%40ss%2Fw c p%40ss%2fw d hidden:word")
                == "a … b … c … d …")
    }

    @Test func theFirstFileOfAuthoritiesThatCanBeReadCounts() throws {
        let folder = try TemporaryFolder()
        let (a, b) = (try folder.write([], "a.pem"), try folder.write([], "b.pem"))
        let gone = folder.file("gone.pem")
        func counts(_ environment: [String: String]) -> [String?] {
            let found = CertificateAuthorities(environment: environment)
            return [found.file?.variable, found.file?.path, found.folder?.variable]
        }
        #expect(counts([:]) == [nil, nil, nil])
        #expect(
            counts(["SSL_CERT_FILE": a, "CURL_CA_BUNDLE": b]) == ["CURL_CA_BUNDLE", b, nil])
        #expect(
            counts(["REQUESTS_CA_BUNDLE": a, "CURL_CA_BUNDLE": b])
                == ["REQUESTS_CA_BUNDLE", a, nil])
        #expect(
            counts(["CURL_CA_BUNDLE": gone, "SSL_CERT_FILE": a, "SSL_CERT_DIR": folder.path])
                == ["SSL_CERT_FILE", a, "SSL_CERT_DIR"])
        #expect(
            counts(["REQUESTS_CA_BUNDLE": folder.path, "SSL_CERT_FILE": a])
                == ["SSL_CERT_FILE", a, "REQUESTS_CA_BUNDLE"])
        let words = CertificateAuthorities(environment: ["SSL_CERT_FILE": gone]).description
        #expect(words.contains("SSL_CERT_FILE names \(gone), which cannot be read: No such file"))
    }

    @Test func whatNamesTheCache() throws {
        for (environment, source) in [
            (["HOME": "/h"], "HOME"), (["HOME": "/h", "XDG_CACHE_HOME": "/x"], "XDG_CACHE_HOME"),
            (["HOME": "/h", "HF_HOME": "~/x"], "HF_HOME"), (["HF_HUB_CACHE": "/c"], "HF_HUB_CACHE"),
            (["HUGGINGFACE_HUB_CACHE": "/c"], "HUGGINGFACE_HUB_CACHE"),
            ([:], "the home folder of user \(getuid())"),
        ] as [([String: String], String)] {
            #expect(try HubSettings(environment: environment).cacheSource == source)
        }
        // A variable must be valid UTF-8 only if it is used.
        for (environment, malformed, isBad) in [
            (["HF_HOME": "?"], "HF_HOME", true), (["HF_HOME": "/h", "HOME": "?"], "HOME", false),
            (["HF_HOME": "~/x", "HOME": "?"], "HOME", true),
            (["HF_HOME": "$SCRATCH/x", "SCRATCH": "?"], "SCRATCH", true),
            (["HF_HUB_CACHE": "/c", "HF_TOKEN_PATH": "?"], "HF_TOKEN_PATH", true),
        ] as [([String: String], String, Bool)] {
            var error: HubError?
            do {
                _ = try HubSettings(environment: environment, malformed: [malformed])
            } catch let caught {
                error = caught
            }
            #expect(
                (error.map { "\($0)".hasPrefix("\(malformed): is not valid UTF-8") } ?? false)
                    == isBad)
        }
    }

    /// Checks that the git ID of an LFS pointer proves the content that the pointer names, and no other content.
    @Test func aPointersIdProvesItsContent() throws {
        let folder = try TemporaryFolder()
        let content = Array("a large file".utf8)
        let sha256 = SHA256.hash(data: content).map { String(format: "%02x", $0) }.joined()
        func gitID(_ bytes: [UInt8]) -> String {
            Insecure.SHA1.hash(data: Array("blob \(bytes.count)\0".utf8) + bytes)
                .map { String(format: "%02x", $0) }.joined()
        }
        let pointer = Array(
            "version https://git-lfs.github.com/spec/v1\noid sha256:\(sha256)\nsize \(content.count)\n"
                .utf8)
        let listed = RepositoryFile(
            path: "f", size: content.count, digest: .gitBlob(gitID(pointer)))
        let path = try folder.write(content, "f")
        #expect(ContentHash.proof(that: path, is: listed) == .sha256(sha256))
        let plain = RepositoryFile(path: "f", size: content.count, digest: .gitBlob(gitID(content)))
        #expect(ContentHash.proof(that: path, is: plain) == plain.digest)
        let other = try folder.write(content.dropLast() + [0], "other")
        for file in [listed, plain] {
            #expect(ContentHash.proof(that: other, is: file) == nil)
            #expect(ContentHash.proof(that: folder.file("none"), is: file) == nil)
        }
        let longer = try folder.write(content + [0], "longer")
        #expect(ContentHash.proof(that: longer, is: listed) == nil)
    }
}
