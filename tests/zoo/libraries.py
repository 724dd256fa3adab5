"""Models of torchvision, timm and transformers, small, from their own classes; nothing is downloaded.

transformers' attention is the plain one of products, except where a model's name says `sdpa`.
"""

import importlib

import torch
from registry import batch, ids, images, images_of_any_size, length, zoo
from torch import nn

from tutorial_lib import DynamicDim, TensorSpec

_operators = torch.library.Library("torchvision", "FRAGMENT")


def load(module):
    """Import a module of torchvision, or of a library that uses it."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        # A torchvision that was built for CUDA has no operators of its own beside a PyTorch for the CPU, and declares
        # fakes of two all the same. No model here calls them.
        for name in ("nms", "qnms"):
            _operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module(module)


@zoo
def resnet():
    models = load("torchvision.models.resnet")
    return models.ResNet(models.BasicBlock, [1, 1, 1, 1], num_classes=10), images_of_any_size()


@zoo
def mobilenet():
    return load("torchvision.models").mobilenet_v3_small(width_mult=0.35, num_classes=10), images(64, 64)


@zoo
def torchvision_vit():
    model = load("torchvision.models").VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=5)
    nn.init.normal_(model.heads.head.weight)
    return model, images()


@zoo
def torchvision_swin():
    model = load("torchvision.models").SwinTransformer([2, 2], 8, [2, 2], [2, 2], [4, 4], num_classes=5)
    return model, images()


@zoo
def swin_of_any_size():
    model = load("torchvision.models").SwinTransformer([2, 2], 8, [2, 2], [2, 2], [4, 4], num_classes=5)
    return model, images_of_any_size(step=8)


@zoo
def segmentation():
    models = load("torchvision.models")
    resnet = models.resnet.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1])
    body = models._utils.IntermediateLayerGetter(resnet, {"layer2": "out"})
    head = models.segmentation.fcn.FCNHead(128, 4)
    return models.segmentation.FCN(body, head), images_of_any_size()


@zoo
def video_resnet():
    video = load("torchvision.models.video.resnet")
    makers = [video.Conv2Plus1D] * 4
    model = video.VideoResNet(video.BasicBlock, makers, [1, 1, 1, 1], video.BasicStem, num_classes=5)
    return model, TensorSpec("x", (batch(1, 2, 3), 3, DynamicDim("frames", 2, 4, 8), 16, 16))


def timm(name, **keywords):
    return load("timm").create_model(name, pretrained=False, num_classes=5, **keywords)


@zoo
def timm_vit_of_any_size():
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    return timm("vit_tiny_patch16_224", dynamic_img_size=True, **sizes), images_of_any_size(step=8)


@zoo
def timm_convnext():
    return timm("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 12, 16, 24)), images_of_any_size()


@zoo
def timm_mixer():
    mixer = load("timm.models.mlp_mixer")
    return mixer.MlpMixer(img_size=32, patch_size=8, embed_dim=16, num_blocks=2, num_classes=5), images()


@zoo
def timm_mobileone():
    return timm("mobileone_s0"), images()


@zoo
def timm_features():
    model = load("timm").create_model("resnet10t", pretrained=False, features_only=True, out_indices=(1, 2))
    return model, images_of_any_size()


@zoo
def timm_poolformer():
    former = load("timm.models.metaformer").MetaFormer
    return former(depths=(1, 1), dims=(8, 12), num_classes=5), images_of_any_size()


SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
EAGER = {"attn_implementation": "eager"}


class _One(nn.Module):
    """One tensor of what a model of transformers returns, from one input."""

    def __init__(self, model, result, **keywords):
        super().__init__()
        self.model, self.result, self.keywords = model, result, keywords

    def forward(self, x):
        return getattr(self.model(x, **self.keywords), self.result)


class _WithMask(_One):
    def forward(self, ids, mask):
        return getattr(self.model(ids, attention_mask=mask, **self.keywords), self.result)


def _text(low=2):
    return batch(1, 2, 5), length(low, limit=64)


def _tokens(low=2):
    return ids(_text(low), 50, name="x")


def _ids_and_mask():
    return ids(_text(), 50), ids(_text(), 2, name="mask")


@zoo
def bert():
    from_library = load("transformers")
    config = from_library.BertConfig(vocab_size=50, max_position_embeddings=64, **SMALL, **EAGER)
    return _WithMask(from_library.BertModel(config), "last_hidden_state"), *_ids_and_mask()


@zoo
def bert_sdpa():
    from_library = load("transformers")
    config = from_library.BertConfig(vocab_size=50, max_position_embeddings=64, **SMALL)
    return _WithMask(from_library.BertModel(config), "last_hidden_state"), *_ids_and_mask()


@zoo
def bert_whole_result():
    class Whole(nn.Module):
        """All that the model returns, in the library's own class."""

        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, ids, mask):
            return self.model(ids, attention_mask=mask, output_hidden_states=True)

    from_library = load("transformers")
    config = from_library.BertConfig(vocab_size=50, max_position_embeddings=64, **SMALL, **EAGER)
    return Whole(from_library.BertModel(config)), *_ids_and_mask()


@zoo
def gpt2():
    from_library = load("transformers")
    config = from_library.GPT2Config(vocab_size=50, n_positions=64, n_embd=32, n_layer=1, n_head=4, **EAGER)
    return _One(from_library.GPT2LMHeadModel(config), "logits", use_cache=False), _tokens()


@zoo
def llama():
    from_library = load("transformers")
    sizes = {"vocab_size": 50, "num_key_value_heads": 2, "max_position_embeddings": 64}
    model = from_library.LlamaForCausalLM(from_library.LlamaConfig(**sizes, **SMALL, **EAGER))
    return _One(model, "logits", use_cache=False), _tokens(1)


@zoo
def llama_sdpa():
    from_library = load("transformers")
    sizes = {"vocab_size": 50, "num_key_value_heads": 2, "max_position_embeddings": 64}
    model = from_library.LlamaForCausalLM(from_library.LlamaConfig(**sizes, **SMALL))
    return _One(model, "logits", use_cache=False), _tokens(1)


@zoo
def mixtral():
    from_library = load("transformers")
    sizes = {"vocab_size": 50, "num_key_value_heads": 2, "num_local_experts": 4, "max_position_embeddings": 64}
    model = from_library.MixtralForCausalLM(from_library.MixtralConfig(**sizes, **SMALL, **EAGER))
    return _One(model, "logits", use_cache=False), _tokens()


@zoo
def gemma():
    from_library = load("transformers")
    sizes = {"vocab_size": 50, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64}
    config = from_library.Gemma2Config(sliding_window=8, query_pre_attn_scalar=8, **sizes, **SMALL, **EAGER)
    return _One(from_library.Gemma2ForCausalLM(config), "logits", use_cache=False), _tokens()


@zoo
def mamba():
    from_library = load("transformers")
    config = from_library.MambaConfig(vocab_size=50, hidden_size=16, state_size=4, num_hidden_layers=1)
    return _One(from_library.MambaForCausalLM(config), "logits", use_cache=False), _tokens()


@zoo
def t5_encoder():
    from_library = load("transformers")
    config = from_library.T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4, **EAGER)
    return _WithMask(from_library.T5EncoderModel(config), "last_hidden_state"), *_ids_and_mask()


@zoo
def whisper_encoder():
    from_library = load("transformers")
    sizes = {"d_model": 32, "encoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    config = from_library.WhisperConfig(
        num_mel_bins=10, max_source_positions=20, vocab_size=50, pad_token_id=0, **sizes, **EAGER
    )
    model = from_library.WhisperModel(config).encoder
    return _One(model, "last_hidden_state"), TensorSpec("x", (batch(), 10, 40))


@zoo
def wav2vec():
    from_library = load("transformers")
    sizes = {"conv_dim": (16, 16), "conv_kernel": (10, 3), "conv_stride": (5, 2), "num_feat_extract_layers": 2}
    positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
    config = from_library.Wav2Vec2Config(**SMALL, **sizes, **positions, **EAGER)
    wave = TensorSpec("x", (batch(1, 2, 5), DynamicDim("samples", 200, 400, 1000)))
    return _One(from_library.Wav2Vec2Model(config), "last_hidden_state"), wave


@zoo
def segformer():
    from_library = load("transformers")
    sizes = {
        "num_encoder_blocks": 2,
        "depths": [1, 1],
        "sr_ratios": [2, 1],
        "hidden_sizes": [8, 16],
        "patch_sizes": [7, 3],
        "strides": [4, 2],
        "num_attention_heads": [1, 2],
        "mlp_ratios": [2, 2],
        "decoder_hidden_size": 16,
    }
    model = from_library.SegformerForSemanticSegmentation(from_library.SegformerConfig(**sizes))
    return _One(model, "logits"), images_of_any_size(step=8)
