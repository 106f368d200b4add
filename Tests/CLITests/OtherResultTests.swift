// Tests of other files in place of results, for example Git LFS pointers from a clone without git-lfs.

import Foundation
import TestSupport
import Testing

struct OtherResultTests {
    @Test func pointersInPlaceOfResultsAreNamed() throws {
        let folder = try TemporaryFolder()
        let out = folder.file("out")
        try Tool.run(
            Tool.arguments(
                corpus: TestData.tiny + "/authormix.jsonl", layers: [0], saveDirectory: out) + [
                    "--layer_types", "res", "--n_docs", "2", "--device", "cpu",
                ], exits: 0)
        let names = try FileManager.default.contentsOfDirectory(atPath: out)
        for ending in [".npz", ".npy", "a.json"] {
            guard let name = names.first(where: { $0.hasPrefix("sae__") && $0.hasSuffix(ending) })
            else { continue }
            let whole = try TestData.bytes("\(out)/\(name)")
            try folder.write(MalformedInputTests.pointer, "out/\(name)")
            let verify = try Tool.run(["verify", out, "--quiet"], exits: 65)
            #expect(
                verify.output.contains("BAD   \(name): is a Git LFS pointer"), "\(verify.output)")
            #expect(verify.output.contains("git lfs pull"), "\(verify.output)")
            let inspect = try Tool.run(["inspect", "\(out)/\(name)"])
            #expect(inspect.status == 65 && inspect.errors.contains("is a Git LFS pointer"))
            try folder.write(whole, "out/\(name)")
        }
        // The same command replaces damaged results. So the error must advise this command, and not a download.
        let name = try #require(names.first { $0.hasSuffix(".npz") })
        let whole = try TestData.bytes("\(out)/\(name)")
        for damaged in [Array(whole[..<300]), Array("It was calm.\n".utf8)] {
            try folder.write(damaged, "out/\(name)")
            for command in ["report", "verify"] {
                let outcome = try Tool.run([command, out])
                let text = outcome.errors + outcome.output
                #expect(outcome.status == 65 && text.contains("\(name): "), "\(text)")
                #expect(text.contains("repeat the run's command"), "\(text)")
                #expect(!text.contains("download"), "\(text)")
            }
        }
        for command in ["report", "verify"] {
            let outcome = try Tool.run([command, "\(out)/\(name)"], exits: 65)
            #expect(
                outcome.errors.contains("\(name): is a file; give the folder that a run wrote to"))
        }
        // The error must name the folder, and not the temporary file, which the user does not know.
        try folder.write(whole, "out/\(name)")
        try FileManager.default.setAttributes([.posixPermissions: 0o555], ofItemAtPath: out)
        let closed = try Tool.run(["report", out], exits: 74, launcher: .withoutPrivilege)
        #expect(closed.errors.contains("cannot create a file in \(out): Permission denied"))
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: out)
        try folder.write(MalformedInputTests.pointer, "out/run.json")
        for command in ["inspect", "verify", "report"] {
            let outcome = try Tool.run([command, out])
            #expect(outcome.status == 65, "\(command): \(outcome.errors)")
            #expect(
                outcome.errors.contains("\(out)/run.json: is a Git LFS pointer"),
                "\(outcome.errors)")
        }
        let other = try folder.write("%PDF-1.7\n".utf8, "paper.pdf")
        let inspect = try Tool.run(["inspect", other])
        #expect(inspect.status == 65 && inspect.errors.contains("is PDF, and not one of .npz"))
        // The PDF is a valid file of the user, so the error must not advise to remove it.
        #expect(!inspect.errors.contains("remove") && !inspect.errors.contains("damaged"))
    }
}
