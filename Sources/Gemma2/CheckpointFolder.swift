// Explains the content of a folder that is not a checkpoint in Hugging Face's layout.

import ByteJSON
import Files

extension CheckpointFiles {
    /// Throws `CheckpointError` if the folder has no safetensors weights and its other files show why; otherwise
    /// returns. Throws `FileError` if the folder cannot be read.
    package static func checkFolder(_ directory: String) throws {
        let names = try directoryContents(directory)
        guard !names.contains(singleName), !names.contains(indexName),
            let reason = otherContents(names, directory)
        else { return }
        throw CheckpointError.otherContents(directory: directory, reason: reason)
    }

    /// Returns the end of a message about a folder with files of these `names`: what the folder is, and what the user
    /// can do. Nil if the files are not known.
    private static func otherContents(_ names: [String], _ directory: String) -> String? {
        func first(_ isMeant: (String) -> Bool) -> String? { names.first(where: isMeant) }
        if let adapter = first({ $0.hasPrefix("adapter_") }) {
            let config = try? MappedFile(path: directory + "/adapter_config.json").parsedJSON()
            let base = config?.object?["base_model_name_or_path"]?.string.map { " for \($0)" } ?? ""
            return
                "is an adapter (LoRA)\(base), not a checkpoint: the folder has \(adapter); merge the adapter into its model (peft: merge_and_unload, then save_pretrained), and give the folder of the merged model"
        }
        let folders = names.filter { fileExists("\(directory)/\($0)/config.json") }
        if !names.contains("config.json"), folders.count == 1 {
            return
                "has no checkpoint itself, but its folder \(folders[0]) has one; give \(directory)/\(folders[0])"
        }
        if let shard = first({
            $0.wholeMatch(of: /model-[0-9]+-of-[0-9]+\.safetensors/) != nil
        }) {
            return
                "has \(shard), but no \(indexName), the list of tensors and their files; download this list too"
        }
        if let file = first({ $0.hasPrefix("consolidated") && $0.hasSuffix(".safetensors") }) {
            return
                "has \(file), weights in their authors' own layout, but no \(singleName); download the files in Hugging Face's layout"
        }
        if let file = first({ $0.hasSuffix(".gguf") }) {
            return
                "has \(file), weights for llama.cpp (GGUF), but no \(singleName); give the checkpoint as published, in safetensors"
        }
        if let file = first({ name in
            [".bin", ".pt", ".pth", ".ckpt"].contains(where: name.hasSuffix)
                && FileKind(path: "\(directory)/\(name)").map { $0.isBinary } ?? true
        }) {
            return
                "has \(file), weights in PyTorch's format (pickle), but no \(singleName); download the safetensors files, or make them: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW)"
        }
        if let file = first({ ["tf_model.h5", "flax_model.msgpack"].contains($0) }) {
            return
                "has \(file), weights for another library, but no \(singleName); download the safetensors files"
        }
        let files = names.filter { $0.hasSuffix(".safetensors") }
        if files.count == 1 {
            return
                "has \(files[0]), but no \(singleName); if \(files[0]) is the whole checkpoint, rename it to \(singleName)"
        }
        return nil
    }
}
