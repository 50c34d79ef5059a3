from hf_scorevi.plots._layers import Run, plain, runs, shortened


def test_names_lose_the_wrappers_of_peft():
    assert plain("base_model.model.vit.layers.0.q_proj.lora_A.default.weight") == "vit.layers.0.q_proj.lora_A.weight"
    assert plain("base_model.model.classifier.modules_to_save.default.bias") == "classifier.bias"
    assert plain("classifier.weight") == "classifier.weight"


def test_long_names_are_shortened_in_the_middle_and_stay_different():
    names = ["abcdefghij.weight", "abcdefghij.bias", "short"]
    assert shortened(names, limit=9, longest=17) == ["abcd…ight", "abcd…bias", "short"]
    assert shortened(["a" * 9 + "x" + "a" * 9, "a" * 9 + "y" + "a" * 9], limit=5, longest=19) == [
        "a" * 9 + "x" + "a" * 9,
        "a" * 9 + "y" + "a" * 9,
    ]
    assert [len(name) for name in shortened(["a" * 30, "a" * 14 + "b" + "a" * 15], limit=5, longest=9)] == [9, 9]


def test_blocks_of_a_transformer():
    names = [
        "vit.embeddings.cls_token",
        "vit.embeddings.patch_embeddings.projection.weight",
        *(f"vit.layers.{i}.{part}" for i in range(7) for part in ("attention.q_proj.weight", "mlp.fc1.weight")),
        "vit.layernorm.weight",
        "classifier.weight",
        "classifier.bias",
    ]
    layers = [Run(2 + 2 * i, 4 + 2 * i, "layers", str(i)) for i in range(7)]
    after = [Run(16, 17, "layernorm", ""), Run(17, 19, "classifier", "")]
    assert runs(names) == [Run(0, 2, "embeddings", ""), *layers, *after]
    assert runs([f"base_model.model.{name}" for name in names]) == runs(names)


def test_blocks_of_an_encoder_and_a_decoder_are_told_apart():
    names = [f"{side}.block.{i}.layer.0.q.weight" for side in ("encoder", "decoder") for i in range(3)]
    assert [(run.stem, run.number) for run in runs(names)] == [
        ("encoder.block", "0"),
        ("encoder.block", "1"),
        ("encoder.block", "2"),
        ("decoder.block", "0"),
        ("decoder.block", "1"),
        ("decoder.block", "2"),
    ]


def test_stages_are_divided_into_their_layers():
    names = [
        "net.embedder.convolution.weight",
        "net.stages.0.layers.0.conv.weight",
        "net.stages.0.layers.1.conv.weight",
        "net.stages.1.downsampling_layer.0.weight",
        "net.stages.1.downsampling_layer.1.weight",
        "net.stages.1.layers.0.layer.0.conv.weight",
        "net.stages.1.layers.0.layer.1.conv.weight",
        "net.stages.1.layers.1.conv.weight",
        "net.stages.1.layers.2.conv.weight",
        "net.stages.1.norm.weight",
        "classifier.1.weight",
    ]
    assert runs(names) == [
        Run(0, 1, "embedder", ""),
        Run(1, 2, "stages.0", "0"),
        Run(2, 3, "stages.0", "1"),
        Run(3, 7, "stages.1", "0"),
        Run(7, 8, "stages.1", "1"),
        Run(8, 10, "stages.1", "2"),
        Run(10, 11, "classifier", ""),
    ]


def test_names_without_numbers_are_runs_of_their_modules():
    assert runs(["encoder.weight", "encoder.bias", "w"]) == [Run(0, 2, "encoder", ""), Run(2, 3, "w", "")]
