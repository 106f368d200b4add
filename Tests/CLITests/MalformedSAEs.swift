// Test cases with damaged SAEs.

import ArrayFiles
import Files
import Foundation
import TestSupport

extension MalformedInputTests {
    static let saes: [MalformedInput] = [
        MalformedInput(
            "an npz with a bad CRC", exits: 65,
            mentioning: ["params.npz", "array W_enc", "CRC-32", "again"]
        ) {
            try $0.changeArchive { $0[20_000] ^= 1 }
        },
        MalformedInput(
            "an npz cut short", exits: 65, mentioning: ["params.npz", "no ZIP directory", "again"]
        ) {
            try $0.changeArchive { $0.removeLast(100) }
        },
        MalformedInput(
            "an empty npz", exits: 65, mentioning: ["params.npz: is empty", "again"]
        ) {
            try $0.changeArchive { $0 = [] }
        },
        MalformedInput(
            "an npz without the encoder", exits: 65,
            mentioning: ["params.npz", "array W_enc is not in the archive", "check"]
        ) {
            try $0.changeArchive { $0 = try Job.archive { $0.removeAll { $0.name == "W_enc" } } }
        },
        MalformedInput(
            "an npz of float64", exits: 65,
            mentioning: ["array b_enc has dtype '<f8'", "expected '<f4' or '<f2'"]
        ) {
            try $0.changeArchive { bytes in
                bytes = try Job.archive { arrays in
                    let i = arrays.firstIndex { $0.name == "b_enc" }!
                    arrays[i].header.descr = "<f8"
                    arrays[i].data += arrays[i].data
                }
            }
        },
        MalformedInput(
            "an npz whose shape is not its size", exits: 65,
            mentioning: ["array b_enc has 280 bytes", "[71]", "again"]
        ) {
            try $0.changeArchive { bytes in
                bytes = try Job.archive { arrays in
                    arrays[arrays.firstIndex { $0.name == "b_enc" }!].header.shape = [71]
                }
            }
        },
        MalformedInput(
            "an npz with a negative size", exits: 65,
            mentioning: ["array b_enc has a negative size -70", "again"]
        ) {
            try $0.changeArchive { bytes in
                bytes = try Job.archive { arrays in
                    arrays[arrays.firstIndex { $0.name == "b_enc" }!].header.shape = [-70]
                }
            }
        },
        MalformedInput(
            "an npz with an array that is none", exits: 65,
            mentioning: ["array threshold", "does not begin as a .npy array", "again"]
        ) {
            try $0.changeArchive { bytes in
                var zip = ZipBuilder()
                let junk = Array("hello, this is text".utf8)
                let reader = try NPZReader(path: "\(TestData.tiny)/sae/\(Job.resSAE)/params.npz")
                for name in reader.names.sorted() where name != "threshold" {
                    let (header, data) = try reader.array(name)
                    let member = header.encoded + data
                    zip.add(name + ".npy", member, crc: member.withUnsafeBytes { crc32($0) })
                }
                zip.add("threshold.npy", junk, crc: junk.withUnsafeBytes { crc32($0) })
                bytes = zip.bytes
            }
        },
        MalformedInput(
            "an npz that announces terabytes", exits: 65,
            mentioning: ["array W_enc", "more than its compressed data can hold", "again"]
        ) {
            try $0.changeArchive { bytes in
                var zip = ZipBuilder()
                zip.add("W_enc.npy", [3, 0], crc: 0, method: 8, size: 0xFFFF_FFF0)
                bytes = zip.bytes
            }
        },
        MalformedInput(
            "an npz that does not inflate", exits: 65,
            mentioning: ["array W_enc", "does not inflate", "again"]
        ) {
            try $0.changeArchive { bytes in
                var zip = ZipBuilder()
                zip.add(
                    "W_enc.npy", Array(repeating: 0xFF, count: 64), crc: 0, method: 8, size: 1000)
                bytes = zip.bytes
            }
        },
        MalformedInput(
            "an npz compressed in an unknown way", exits: 65,
            mentioning: ["array W_enc", "compression method 14", "expected stored or deflated"]
        ) {
            try $0.changeArchive { bytes in
                var zip = ZipBuilder()
                zip.add("W_enc.npy", [1, 2, 3], crc: 0, method: 14)
                bytes = zip.bytes
            }
        },
        MalformedInput(
            "an SAE of another width", exits: 65,
            mentioning: ["params.npz", "W_enc has shape [70, 64]", "expected [64, d_sae]", "check"]
        ) {
            try $0.changeArchive { bytes in
                bytes = try Job.archive { arrays in
                    arrays[arrays.firstIndex { $0.name == "W_enc" }!].header.shape = [70, 64]
                }
            }
        },
        MalformedInput(
            "a threshold of another length", exits: 65,
            mentioning: ["threshold has shape [2, 35]", "expected [70]", "check"]
        ) {
            try $0.changeArchive { bytes in
                bytes = try Job.archive { arrays in
                    arrays[arrays.firstIndex { $0.name == "threshold" }!].header.shape = [2, 35]
                }
            }
        },
        MalformedInput(
            "an SAE folder without files", exits: 65,
            mentioning: ["average_l0_46", "neither params.npz nor cfg.json", "--target_l0"]
        ) {
            try $0.changeArchive { _ in }
            try FileManager.default.removeItem(atPath: "\($0.saes)/\(Job.resSAE)/params.npz")
        },
        MalformedInput(
            "a NaN in the encoder", exits: 65,
            mentioning: ["params.npz", "NaN or infinity in W_enc or b_enc", "again"]
        ) { try $0.changeArchive { $0 = try Job.archive(setting: "W_enc", at: 77, to: .nan) } },
        MalformedInput(
            "an infinite bias", exits: 65,
            mentioning: ["params.npz", "NaN or infinity in W_enc or b_enc", "again"]
        ) {
            try $0.changeArchive { $0 = try Job.archive(setting: "b_enc", at: 69, to: .infinity) }
        },
        MalformedInput(
            "a NaN for a threshold", exits: 65,
            mentioning: ["params.npz", "NaN or infinity in threshold", "again"]
        ) { try $0.changeArchive { $0 = try Job.archive(setting: "threshold", at: 3, to: .nan) } },
        MalformedInput(
            "a TopK SAE", exits: 65,
            mentioning: ["cfg.json", "architecture is \"topk\"", "expected \"jumprelu\""]
        ) {
            try $0.changeSAEConfig("jumprelu", "topk")
        },
        MalformedInput(
            "an SAE that subtracts b_dec", exits: 65,
            mentioning: ["cfg.json", "apply_b_dec_to_input", "Gemma Scope"]
        ) {
            try $0.changeSAEConfig(
                "\"apply_b_dec_to_input\": false", "\"apply_b_dec_to_input\": true")
        },
        MalformedInput(
            "an SAE of another hook", exits: 65,
            mentioning: [
                "cfg.json", "blocks.3.hook_resid_post", "expected blocks.0.hook_resid_post",
            ]
        ) {
            try $0.changeSAEConfig("blocks.0.hook_resid_post", "blocks.3.hook_resid_post")
        },
        MalformedInput(
            "an SAE configuration that is not JSON", exits: 65,
            mentioning: ["cfg.json", "not JSON"]
        ) {
            try $0.changeSAEConfig("{", "")
        },
    ]
}
