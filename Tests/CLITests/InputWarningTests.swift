// What the inputs hold that changes nothing is said once, before anything is done; what would change numbers is refused
// before a worker is started.

import Foundation
import TestSupport
import Testing

struct InputWarningTests {
    /// A job on a configuration with a key that is not known, and an SAE of another model.
    private func job() throws -> Job {
        var job = try Job()
        try job.changeShards("config.json") {
            try Job.replace("\"use_cache\": true", by: "\"flavour\": 7", in: &$0)
        }
        try job.changeSAEConfig("gemma-2-2b\"", "gemma-2-9b-it\"")
        return job
    }

    private func count(_ text: String, in output: String) -> Int {
        output.components(separatedBy: text).count - 1
    }

    @Test func eachIsSaidOnce() throws {
        let job = try job()
        let outcome = try Tool.run(job.arguments + ["--workers", "2"])
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(count("flavour", in: outcome.errors) == 1, "\(outcome.errors)")
        #expect(count("gemma-2-9b-it", in: outcome.errors) == 1, "\(outcome.errors)")
        // Of the three SAEs one says so.
        #expect(count("model_name", in: outcome.errors) == 1)
    }

    /// With peft, transformers would load the adapter and the model that it names.
    @Test func anAdapterBesideWeightsIsNamed() throws {
        var job = try Job()
        try job.copyModel()
        try TestData.write("{}".utf8, to: job.model + "/adapter_config.json")
        let outcome = try Tool.run(job.arguments + ["--dry_run"])
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(count("adapter_config.json", in: outcome.errors) == 1, "\(outcome.errors)")
    }

    @Test func aDryRunSaysThemToo() throws {
        let job = try job()
        let outcome = try Tool.run(job.arguments + ["--dry_run"])
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(count("flavour", in: outcome.errors) == 1 && !outcome.output.isEmpty)
        #expect(count("gemma-2-9b-it", in: outcome.errors) == 1)
        #expect(!FileManager.default.fileExists(atPath: job.saveDirectory))
    }

    /// SAEs and tokenizers are looked at before anything is written, the last of them too.
    @Test(arguments: ["cfg.json", "tokenizer.json"])
    func aDryRunRefuses(name: String) throws {
        var job = try Job()
        if name == "cfg.json" {
            try job.changeSAEConfig("\"hook_head_index\": null", "\"hook_head_index\": 3")
        } else {
            try job.changeModelText(name, "\"dropout\": null", "\"dropout\": 0.5")
        }
        let outcome = try Tool.run(job.arguments + ["--dry_run"])
        #expect(outcome.status == 65 && outcome.errors.contains(name), "\(outcome.errors)")
        #expect(outcome.output.isEmpty)
        #expect(!FileManager.default.fileExists(atPath: job.saveDirectory))
    }
}
