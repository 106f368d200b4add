// Tests of a cache to which other users may write, and of the links, pipes and files that they may put into it.

import Files
import Foundation
import TestSupport
import Testing

struct SharedCacheTests {
    private let folder: TemporaryFolder
    private let hub: TestHub
    private let victim: String
    private let secret = "of nobody's business"

    /// The ID of another user. Only root can create files that belong to this user.
    private static let stranger: uid_t = 1111

    init() throws {
        folder = try TemporaryFolder()
        hub = try TestHub(fixtureIn: folder)
        victim = folder.file("victim")
        try folder.write(secret.utf8, "victim/.ssh/id_rsa")
        try folder.write(#"{"mine": 1}"#.utf8, "victim/project/config.json")
        try folder.write("half".utf8, "victim/download.partial")
        chmod("\(victim)/.ssh/id_rsa", 0o600)
    }

    private var home: String { folder.file("hf") }
    private var model: String { home + "/hub/models--google--gemma-2-2b" }
    private let shard = "model-00002-of-00003.safetensors"

    /// Fetches the files that a run with layer `layer` needs. `shell` is bash code that is put before the command.
    private func fetch(
        _ more: [String] = [], _ environment: [String: String?] = [:], layer: Int = 0,
        shell: String = "exec"
    ) throws -> TestCommand.Outcome {
        var variables = environment
        variables["XDG_CACHE_HOME"] = folder.file("own")
        return try Tool.run(
            ["fetch", "--layers", "\(layer)", "--layer_types", "res"] + more,
            environment: hub.environment(home: home, variables),
            launcher: .shell(shell + #" "$@""#))
    }

    private func plant(_ path: String, linkTo target: String, by user: uid_t? = nil) throws {
        let files = FileManager.default
        try? files.removeItem(atPath: path)
        try files.createDirectory(
            atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try files.createSymbolicLink(atPath: path, withDestinationPath: target)
        if let user { #expect(lchown(path, user, user) == 0) }
    }

    /// Checks that the victim's files are unchanged and that nothing was added to them.
    private func expectUntouched(_ place: String) throws {
        #expect(try TestData.bytes("\(victim)/.ssh/id_rsa") == Array(secret.utf8), "\(place)")
        let project = try TestData.bytes("\(victim)/project/config.json")
        #expect(project == Array(#"{"mine": 1}"#.utf8), "\(place)")
        let names = try FileManager.default.subpathsOfDirectory(atPath: victim).sorted()
        #expect(
            names
                == [
                    ".ssh", ".ssh/id_rsa", "download.partial", "project", "project/config.json",
                ], "\(place)")
    }

    /// Returns the bytes of the shard, and their SHA-256, which is the blob's name in the cache.
    private func content() throws -> (bytes: [UInt8], digest: String) {
        let bytes = try TestData.bytes("\(TestData.tiny)/model/\(shard)")
        return (bytes, sha256(bytes))
    }

    private func commit() throws -> String {
        try TestData.text("\(model)/refs/main")
    }

    // MARK: Links

    /// Checks that a symlink in place of one of the program's own folders is not followed, whoever made the link.
    @Test(arguments: ["", "/refs", "/DIGEST"])
    func aLinkInPlaceOfOurFolders(place: String) throws {
        let name = ".sae-extract" + place.replacing("DIGEST", with: try content().digest)
        try plant("\(model)/\(name)", linkTo: victim)
        let outcome = try fetch()
        try expectUntouched(name)
        // A download does not need the program's folder `refs`, so it need not fail.
        guard place != "/refs" else { return }
        #expect(outcome.status == 74, "\(outcome.errors)")
        #expect(
            outcome.errors.contains("cannot use \(model)/\(name): it is a link to \(victim)"),
            "\(outcome.errors)")
    }

    @Test func aLinkInPlaceOfACommit() throws {
        #expect(try fetch().status == 0)
        let snapshot = "\(model)/snapshots/\(try commit())"
        try plant(snapshot, linkTo: victim + "/project")
        let outcome = try fetch()
        try expectUntouched(snapshot)
        #expect(outcome.status == 74, "\(outcome.errors)")
        #expect(
            outcome.errors.contains("cannot use \(snapshot): it is a link to \(victim)/project"),
            "\(outcome.errors)")
    }

    /// Checks a symlink in place of a folder of the cache. A link that another user made must be refused. A link that
    /// root made must be followed.
    @Test(arguments: ["", "/snapshots", "/blobs", "/refs", "/.."])
    func linksOfOthersAreNotFollowed(place: String) throws {
        try #require(getuid() == 0, "these tests need root, to be two users")
        let path = place == "/.." ? home + "/hub" : model + place
        let elsewhere = folder.file("elsewhere")
        try FileManager.default.createDirectory(
            atPath: elsewhere, withIntermediateDirectories: true)
        try plant(path, linkTo: elsewhere, by: Self.stranger)
        let refused = try fetch()
        #expect(try FileManager.default.contentsOfDirectory(atPath: elsewhere) == [])
        // A download does not need `refs`, so it need not fail.
        if place != "/refs" {
            #expect(refused.status == 74, "\(refused.errors)")
            #expect(
                refused.errors.contains(
                    "\(path): it is a link to \(elsewhere) that user 1111 has made"),
                "\(refused.errors)")
        }
        #expect(lchown(path, 0, 0) == 0)
        let outcome = try fetch()
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(try !FileManager.default.contentsOfDirectory(atPath: elsewhere).isEmpty)
    }

    @Test func aLinkInPlaceOfALock() throws {
        let digest = try content().digest
        let locks = home + "/hub/.locks/models--google--gemma-2-2b"
        try plant("\(locks)/\(digest).lock", linkTo: victim + "/made-by-a-lock")
        let outcome = try fetch()
        #expect(outcome.status == 0, "\(outcome.errors)")
        try expectUntouched("lock")
    }

    /// Checks symlinks to the folder in which they are. A search that follows them would not end.
    @Test func linksThatLeadInCircles() throws {
        #expect(try fetch().status == 0)
        let saes = home + "/hub/models--google--gemma-scope-2b-pt-res"
        let snapshots = try FileManager.default.contentsOfDirectory(atPath: saes + "/snapshots")
        for name in ["a", "b", "c"] {
            try plant("\(saes)/snapshots/\(snapshots[0])/\(name)", linkTo: ".")
        }
        // Without a list of the commit's files, the program searches the folder for the files.
        try FileManager.default.removeItem(atPath: saes + "/.sae-extract")
        let outcome = try fetch([], ["HF_HUB_OFFLINE": "1"])
        #expect(outcome.status == 0, "\(outcome.errors)")
    }

    /// Checks that the program does not block on FIFOs in place of files.
    @Test func pipesInPlaceOfFiles() throws {
        let digest = try content().digest
        for place in [
            ".sae-extract/refs/main", ".sae-extract/\(digest)/1.partial", "blobs/\(digest)",
            "../.locks/models--google--gemma-2-2b/\(digest).lock",
        ] {
            let path = "\(model)/\(place)"
            try FileManager.default.createDirectory(
                atPath: (path as NSString).deletingLastPathComponent,
                withIntermediateDirectories: true)
            #expect(mkfifo(path, 0o666) == 0)
        }
        let outcome = try fetch()
        #expect(outcome.status == 0, "\(outcome.errors)")
    }

    // MARK: Partial downloads

    /// Returns the offset of the first requested byte of the shard: nil without a request, -1 if the range is
    /// invalid.
    private func firstByte() throws -> Int? {
        try hub.requests().first { $0.isForBody && $0.path.contains(shard) && $0.port == "storage" }
            .map { request in
                let range = request.headers["range"] ?? "bytes=0-"
                return Int(range.dropFirst("bytes=".count).prefix { $0 != "-" }) ?? -1
            }
    }

    /// Checks which partial downloads are continued. A symlink or a hard link to a private file must not be
    /// continued, because the cache would show the file to other users.
    @Test(arguments: ["a link", "a second name", "a readable part", "a part of one's own"])
    func partsOfOthers(kind: String) throws {
        let (bytes, digest) = try content()
        let part = "\(model)/.sae-extract/\(digest)/zzz.partial"
        let beginning = Array(bytes.prefix(50_000))
        let original = try folder.write(beginning, "victim/beginning")
        chmod(original, 0o600)
        switch kind {
        case "a link": try plant(part, linkTo: original)
        case "a second name":
            try folder.write([], "hf/hub/models--google--gemma-2-2b/.sae-extract/\(digest)/x")
            #expect(link(original, part) == 0)
        default:
            try folder.write(
                beginning,
                "hf/hub/models--google--gemma-2-2b/.sae-extract/\(digest)/zzz.partial")
            chmod(part, kind == "a readable part" ? 0o644 : 0o600)
        }
        let outcome = try fetch([], shell: "umask 022; exec")
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(try firstByte() == (kind.contains("part") ? beginning.count : 0), "\(kind)")
        #expect(try TestData.bytes(original) == beginning)
        #expect(try mode("\(model)/blobs/\(digest)") == 0o644)
        #expect(try TestData.bytes("\(model)/blobs/\(digest)") == bytes)
    }

    private func mode(_ path: String) throws -> mode_t {
        var info = stat()
        try #require(lstat(path, &info) == 0, "\(path)")
        return info.st_mode & 0o7777
    }

    /// Checks that other users cannot write to partial downloads. Otherwise they could change bytes after hashing.
    @Test func partsAreNotWritableForOthers() throws {
        try hub.setFaults(#"[{"port": "storage", "method": "GET", "rate": 100000}]"#)
        _ = try fetch([], shell: "umask 002; exec timeout -s KILL 3")
        let parts = try FileManager.default.subpathsOfDirectory(atPath: home).filter {
            $0.hasSuffix(".partial")
        }
        #expect(!parts.isEmpty)
        for path in parts { #expect(try mode("\(home)/\(path)") & 0o022 == 0, "\(path)") }
        try hub.setFaults("[]")
        #expect(try fetch([], shell: "umask 002; exec").status == 0)
        let blobs = try FileManager.default.subpathsOfDirectory(atPath: home).filter {
            $0.contains("/blobs/")
        }
        // A complete content has the permissions that the umask gives, so that a group can share it.
        for path in blobs { #expect(try mode("\(home)/\(path)") == 0o664, "\(path)") }
    }

    /// Checks a cache whose `blobs` is a symlink to a folder of another group, as on some clusters.
    @Test func foldersElsewhereOfAnotherGroup() throws {
        try #require(getuid() == 0, "these tests need root, for another group's folder")
        let elsewhere = "/dev/shm/sae-extract-\(UInt64.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(
            atPath: elsewhere, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: elsewhere) }
        #expect(chown(elsewhere, 0, 3333) == 0 && chmod(elsewhere, 0o2770) == 0)
        try plant(model + "/blobs", linkTo: elsewhere)
        let outcome = try fetch([], shell: "umask 027; exec")
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(try TestData.bytes("\(elsewhere)/\(content().digest)") == content().bytes)
    }

    // MARK: Contents

    private func makeShared() throws {
        for path in [home, home + "/hub", model, model + "/blobs"] {
            #expect(chmod(path, 0o777) == 0)
        }
    }

    /// Checks a blob to which other users could write. If its bytes are wrong, it must be downloaded again.
    @Test func contentsThatOthersCouldChange() throws {
        #expect(try fetch().status == 0)
        let (bytes, digest) = try content()
        let blob = "\(model)/blobs/\(digest)"
        try makeShared()
        let whole = try fetch()
        #expect(whole.status == 0, "\(whole.errors)")
        #expect(whole.output.contains("to be downloaded: 0 files"), "\(whole.output)")
        // The stored hash must not count after the file has changed.
        var wrong = bytes
        wrong[wrong.count / 2] ^= 1
        try TestData.write(wrong, to: blob)
        let offline = try fetch([], ["HF_HUB_OFFLINE": "1"])
        #expect(offline.status == 65, "\(offline.errors)")
        #expect(
            offline.errors.contains(
                "\(shard) of google/gemma-2-2b in the cache is damaged"),
            "\(offline.errors)")
        let online = try fetch()
        #expect(online.status == 0, "\(online.errors)")
        #expect(online.errors.contains("the content does not have the digest"), "\(online.errors)")
        #expect(try TestData.bytes(blob) == bytes)
    }

    /// Checks that another user's symlink among the blobs is not used. The sticky bit allows users to add links.
    @Test func linksAmongContents() throws {
        try #require(getuid() == 0, "these tests need root, to be two users")
        #expect(try fetch(layer: 1).status == 0)
        #expect(try fetch().status == 0)
        let saes = home + "/hub/models--google--gemma-scope-2b-pt-res"
        let files = try FileManager.default.subpathsOfDirectory(atPath: saes + "/snapshots")
            .filter { $0.hasSuffix("params.npz") }.sorted().map { "\(saes)/snapshots/\($0)" }
        try #require(files.count == 2)
        let contents = try files.map { try TestData.bytes($0) }
        #expect(contents[0] != contents[1] && contents[0].count == contents[1].count)
        let blobs = try files.map { try #require(realpath($0, nil).map { String(cString: $0) }) }
        // Replaces the blob of layer 1 by a symlink with the same name to the blob of layer 0.
        try plant(blobs[1], linkTo: blobs[0], by: Self.stranger)
        for path in [home, home + "/hub", saes, saes + "/blobs"] {
            #expect(chmod(path, 0o1777) == 0)
        }
        let outcome = try fetch(layer: 1)
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(try TestData.bytes(files[1]) == contents[1])
    }

    /// Checks that a refused download ends the other downloads at once. Here one of them would never end by itself.
    @Test func oneRefusalEndsAllDownloads() throws {
        try hub.setFaults(
            #"[{"path": "model-00002", "port": "storage", "method": "GET", "status": 403}, {"path": "model-00001", "port": "storage", "method": "GET", "stall": 1000}]"#
        )
        let outcome = try fetch([], ["HF_HUB_DOWNLOAD_TIMEOUT": "86400"])
        #expect(outcome.status == 69, "\(outcome.errors)")
        #expect(outcome.errors.contains("answers 403"), "\(outcome.errors)")
    }

    /// Checks that a content is hashed once, and that only this user can write to the stored hashes.
    @Test func whatWasHashedIsRemembered() throws {
        #expect(try fetch().status == 0)
        let memory = folder.file("own/sae-extract/hashed-contents")
        #expect(!fileExists(memory))
        try makeShared()
        #expect(try fetch([], shell: "umask 002; exec").status == 0)
        #expect(try mode(folder.file("own/sae-extract")) == 0o700)
        let lines = try TestData.bytes(memory)
        #expect(String(decoding: lines, as: UTF8.self).contains(try content().digest))
        #expect(try fetch().status == 0)
        #expect(try TestData.bytes(memory) == lines)
        // A file of hashes to which other users can write must not be used and must not be extended.
        chmod(memory, 0o666)
        #expect(try fetch().status == 0)
        #expect(try TestData.bytes(memory) == lines)
    }

    /// Checks that a stored list of files is requested again if other users could have changed the hashes in it.
    @Test func listsThatOthersCouldChange() throws {
        #expect(try fetch().status == 0)
        try makeShared()
        let (bytes, digest) = try content()
        var other = bytes
        other[other.count / 2] ^= 1
        let otherDigest = sha256(other)
        let commit = try commit()
        let list = "\(model)/.sae-extract/\(commit).json"
        chmod(model + "/.sae-extract", 0o777)
        let text = try TestData.text(list)
        try TestData.write(Array(text.replacing(digest, with: otherDigest).utf8), to: list)
        try TestData.write(other, to: "\(model)/blobs/\(otherDigest)")
        let file = "\(model)/snapshots/\(commit)/\(shard)"
        try plant(file, linkTo: "../../blobs/\(otherDigest)")
        for more in [[], ["--revision", commit]] {
            let outcome = try fetch(more)
            #expect(outcome.status == 0, "\(outcome.errors)")
            #expect(try TestData.bytes(file) == bytes)
            // A list that this user has written must not be requested again.
            try hub.clearLog()
            #expect(try fetch(more).status == 0)
            #expect(try !hub.requests().contains { $0.path.contains("gemma-2-2b/tree/") })
            try TestData.write(Array(text.replacing(digest, with: otherDigest).utf8), to: list)
            try plant(file, linkTo: "../../blobs/\(otherDigest)")
        }
    }

    // MARK: Lists

    /// Checks file sizes whose sum does not fit a signed 64-bit integer.
    @Test func sizesWithoutEnd() throws {
        let blob = String(repeating: "a", count: 40)
        // The files have more than 2⁶³ bytes in total. Each file has the largest size that the program accepts.
        let files = (0..<8200).map {
            #"{"type": "file", "path": "data/train-\#($0).jsonl", "size": 1125899906842623, "oid": "\#(blob.dropLast(5))\#(10000 + $0)"}"#
        }
        try folder.write([0x0A], "hub/datasets/some/corpus/data/train-0.jsonl")
        // The card has one pattern for the files. Without it, each name would be compared with dozens of patterns.
        try folder.write(
            #"{"configs": [{"config_name": "default", "data_files": "data/*"}]}"#.utf8,
            "hub/datasets/some/corpus/.card.json")
        let body = "[\(files.joined(separator: ","))]".replacing("\"", with: "\\\"")
        try hub.setFaults(
            #"[{"path": "some/corpus/tree/", "status": 200, "body": "\#(body)"}, {"method": "HEAD", "path": "some/corpus", "status": 200}]"#
        )
        let outcome = try fetch(["--data_repo", "some/corpus"])
        #expect(outcome.status == 74, "\(outcome.errors)")
        #expect(outcome.errors.contains("the downloads need"), "\(outcome.errors)")
    }

    /// Checks that two file names that look alike but have different bytes are two files.
    @Test func namesThatDifferInTheirBytesAlone() throws {
        for (name, author) in [("caf\u{E9}", "composed"), ("cafe\u{301}", "decomposed")] {
            try folder.write(
                SyntheticCorpus.jsonl(authors: [author]),
                "hub/datasets/some/corpus/train-\(name).jsonl")
        }
        let outcome = try fetch(["--data_repo", "some/corpus"])
        #expect(outcome.status == 0, "\(outcome.errors)")
        let paths = try FileManager.default.subpathsOfDirectory(
            atPath: home + "/hub/datasets--some--corpus/snapshots")
        #expect(paths.filter { $0.hasSuffix(".jsonl") }.count == 2, "\(paths)")
    }
}
