// Tests of unexpected contents of the inputs. If they change no results, the program must warn once. If they would
// change results, it must refuse the run.

import Foundation
import TestSupport
import Testing

struct InputWarningTests {
    /// Makes a job with an unknown key in config.json and with an SAE of another model.
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
        let outcome = try Tool.run(job.arguments + ["--workers", "2"], exits: 0)
        #expect(count("flavour", in: outcome.errors) == 1, "\(outcome.errors)")
        #expect(count("gemma-2-9b-it", in: outcome.errors) == 1, "\(outcome.errors)")
        // Only one of the three SAEs has another model's name, so one warning must appear.
        #expect(count("model_name", in: outcome.errors) == 1)
    }

    /// Checks the warning about an adapter_config.json beside the weights. The program does not apply the adapter.
    @Test func anAdapterBesideWeightsIsNamed() throws {
        var job = try Job()
        try job.copyModel()
        try TestData.write("{}".utf8, to: job.model + "/adapter_config.json")
        let outcome = try Tool.run(job.arguments + ["--dry_run"], exits: 0)
        #expect(count("adapter_config.json", in: outcome.errors) == 1, "\(outcome.errors)")
    }

    @Test func aDryRunSaysThemToo() throws {
        let job = try job()
        let outcome = try Tool.run(job.arguments + ["--dry_run"], exits: 0)
        #expect(count("flavour", in: outcome.errors) == 1 && !outcome.output.isEmpty)
        #expect(count("gemma-2-9b-it", in: outcome.errors) == 1)
        #expect(!FileManager.default.fileExists(atPath: job.saveDirectory))
    }

    /// Checks that a dry run examines all SAEs and the tokenizer, and refuses bad ones before anything is written.
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
