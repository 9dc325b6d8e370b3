"""PyTorch's files read without PyTorch, and hostile or damaged ones refused."""

import base64
import json
import os
import pickle
import struct
import zipfile
import zlib

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from ssagan_jax.data.pretrained_tokenizer import pretrained_tokenizer
from ssagan_jax.data.tokenizer import TokenizerError
from ssagan_jax.errors import DamagedFileError
from ssagan_jax.pytorch.weight_files import find_weight_file, read_tensors
from ssagan_jax.untrusted.published_files import find_published_file

# torch.save (2.13), deflated and in base 85, of {"epoch": 3, "lr": 0.1, "state_dict": OrderedDict}
# with, over big = arange(12.).reshape(3, 4): "module.a": big.t(), "module.b":
# Parameter(big[1:, 2:]), "module.h": half [1.5, -2], "module.f": bfloat16 [1.5, -3], "module.n":
# tensor(7), "module.e": zeros(0, 3). The second one with _use_new_zipfile_serialization=False.
ZIP = (
    "c-o~^+i%-c7(a2+By&f48<Z93#>ORqHMQehw{GbyWRQ$R8!n0lQsgG5wS^n!b51%ynp6q3uos?qfd|AhZ#)g2)_(!C"
    "?Fk_y9uQBH_zO74Zro#cX`wyJm&BLf<vaeq&ntR7flxY)4y{QvjSRPKT3dLrV-O?X``Fgh47wFs+rk|{+2$Ap;GWYq"
    "A*RQh0zI-_5Z<i+{0&>*Hbr`-PYi-v9ji?s-fla#joZX>x_$8-w}V~Wd4paNA(3mqShmRwZ91KSjq?U1+r*(x@~r`}"
    "?7rA?@!G($J1v5{eaCHW6+}p7v(1zz;<&~JhO`e6HQO=ByZ%WL&NO569tp%|oc^|Z0~puO5;(i6BR!$Vci|~LrYCkG"
    "bJt`(CJ0P6V2U@h2Gb+V^bFV7#00w{%$U@UnKsXuqUi~oTh)`gpbNY3G}Vdi!ZW_WEP-bmaQ;j0VD1Zet^v>UY9_qk"
    "Q|)K-mSL|4$;^An$Z&yb2m~&&B!nG!QIGAwC7=H?ftMQaGEcb<uY@R7Z-?Y^K>MmkTY#)jo7<;-jnTgD(_SI4(11Ko"
    "+l9pt?b}XwBcPN#N(E#}86!}jl)0Qwr4T4Kpu|&QC=d6~!xf=Iafm>bSwZYE)$};q#j8HYH3CZwxIP%<SM*f+pUjW-"
    "uV@9bSQ%N}vuGix?)<vrZW^Suh21_aNKMT}iu{NrGs%08fBT#{WieWE4pj~$_v^G}*w#jO6L*QGD*s*eV3mu^K>arS"
    "&6-X)(!dm|2L{$YCD>tor>WOYqB~r+MTm`=hn?$xo=;Mh<dGgS=tgL&EJ~Vs^%Mqt*6lj|TBaWw+cdtXu}9+%8t5jS"
    "Wi&3*kZv-kpWIo$A+b4djMH;rr?RF_9&$?4*<+mLhY!D|L@03#=W>{{ps7oz+5TI5^<__An7=%80)6GQ`l)?p=ArlK"
    "FNcYy0}tql9+tu$ikezIv4_#QPN11UC+O^nsE{Hu=f8Zn@&57sGmi=f4eVL(W7nb`{F%XCWG$<ssrmnzi6oUua!rz}"
    "C8Z!KrJ7W!R^+N8D@wV_uGHjetx~ReW9EmuAAOjmKC+(67&9CA<fq=`A?MNecofYKu-OpucL9x>lTi|W2+f5^R^#Z1"
    "$rt6}2gy{3=U0v=7+_I2-`$xI{DTCF%$_Kg@8U2PjYY6>6w7yD82ernTZm%$&Iw~5M6t>c`{dr@S2G#G7Nfd+-A{zD"
    "dmMJe^XAKOJ_Mdlp<^0lMNcNL4BINc5Fp1RzxVxA(NC%2m`Qs7Zj1i0|Hd6l`j~O=e*fNo0k;Ka=K"
)
LEGACY = (
    "c-nQ6NpI6Y6vxL)nqb;ecFJ1zge5qR6B?E-2o<DZtGW1sEZ3RVMy{P_Pbz^_DVK)AHvn<q$XDQ&kHVFYfW(34*ez*g"
    "Mt(D%?f?6~ndyn26#viHrQb7ezrUKU_QdDEB&;`ql+7tZNGA$;=!Cwt!J^m;0}yb5Ie|02$GOie7PLJ(0CC$?aFD<2"
    "Fe~=nvlygJkjrKP2V*ykI25R8O4#!P4r5d{<wPS4)}Tn`Zg+>7tY@9jaY3MxDJE+o5TDHd_?(n4LrBbR&aAfQaF87I"
    "<}-(*wODx>wOPd4k8wr;xne+}Y?g4tdf4vztZKuU!^6mNt5%nLeyms#Tj_d!+u|&U!^qmu6eyO<W^o7!BYTZODczzh"
    "`Jv5Ur-KR{Feh<MtKL#|wWT#{&6=)*GR)8Ebm1T!f5BmVnGz~fsSguWpmHB3Ke~ylLmZ|II6P`?1&;j3TE~v;b;enw"
    "z)=^?xg|Fje#}jw$Cv3C6{*;V6UY|&a59CS;xKK%>Fr_X%m+AYz`0QeE}T#0vwWZ0{_1YJ7xocbnm!9NNEDHHF-cS0"
    "f=g7`g3BrG3Wuu(TpI<f!u36XN5d1XHFqK9eUQ3V*PxO?Ze);~3FKA^xy_+!z@1S@0O}sdGkjpXfZ9Jmt*)wCqtToN"
    "4FLiI>IkS*QemA#!+_?fFoV1Kr?1v^O@~=jA*j+yY?9>4?@=i^{rjon0}c-jm>a(HH_1EC(Gc?T7xV5~%DWCZFS`P("
    "lB|eXJD6V>jFZvQo5yMaKa3v6H;e(sPYkk1$P~s5hPt?;LFULn$bO4i`xl3D71j"
)
STORAGE = np.arange(6, dtype=np.float32)


def tensor_op(numel=6, offset=0, shape=(2, 3), strides=(3, 1), location="cpu", kind="FloatStorage"):
    """Pickle (protocol 0) of a tensor over storage "0", as torch.save writes it."""
    numbers = lambda values: b"(" + b"".join(b"I%d\n" % v for v in values) + b"t"  # noqa: E731
    storage = f"(Vstorage\nctorch\n{kind}\nV0\nV{location}\nI{numel}\ntQ".encode()
    state = storage + b"I%d\n" % offset + numbers(shape) + numbers(strides) + b"I00\nN"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + state + b"tR"


def dict_op(**entries):
    return b"(d" + b"".join(b"V%s\n%ss" % (k.encode(), v) for k, v in entries.items())


def write_zip(path, program, storage=STORAGE, **more):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program + b".")
        archive.writestr("archive/data/0", storage.tobytes())
        for name, content in more.items():
            archive.writestr(f"archive/{name}", content)
    return path


def write_legacy(path, program, storage=STORAGE):
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    parts += [program + b".", pickle.dumps(["0"], 2), struct.pack("<q", storage.size)]
    path.write_bytes(b"".join(parts) + storage.tobytes())
    return path


@pytest.mark.parametrize("packed", [ZIP, LEGACY])
def test_files_of_pytorch(tmp_path, packed):
    path = tmp_path / "model.pth"
    path.write_bytes(zlib.decompress(base64.b85decode(packed)))
    big = np.arange(12, dtype=np.float32).reshape(3, 4)
    wanted = {
        "a": big.T,
        "b": big[1:, 2:],
        "h": np.array([1.5, -2], np.float16),
        "f": np.array([1.5, -3], ml_dtypes.bfloat16),
        "n": np.array(7, np.int64),
        "e": np.zeros((0, 3), np.float32),
    }
    read = read_tensors(path)
    assert read.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert read[name].dtype == tensor.dtype and read[name].flags.c_contiguous
        np.testing.assert_array_equal(read[name], tensor)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_gpu_tensors_and_strides(tmp_path, write):
    program = dict_op(
        w=tensor_op(location="cuda:3"), t=tensor_op(offset=1, shape=(2, 2), strides=(1, 3))
    )
    read = read_tensors(write(tmp_path / "x.pt", program))
    np.testing.assert_array_equal(read["w"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(read["t"], [[1, 4], [2, 5]])


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_ordered_dictionaries_of_python_2(tmp_path, write):
    """Which pickles one as a call with its pairs: the encoders that AttnGAN published."""
    pairs = b"(l" + b"".join(b"(lV%s\na%saa" % (name, tensor_op()) for name in (b"w", b"v"))
    program = b"ccollections\nOrderedDict\n((l" + b"(lVa.w\na" + tensor_op() + b"aatR"
    assert set(read_tensors(write(tmp_path / "x.pth", program))) == {"a.w"}
    program = b"ccollections\nOrderedDict\n(" + pairs + b"tR"
    read = read_tensors(write(tmp_path / "y.pth", program))
    assert set(read) == {"w", "v"} and read["w"].shape == read["v"].shape
    hostile = b"ccollections\nOrderedDict\n((l(l)a" + tensor_op() + b"aatR"
    with pytest.raises(ValueError, match="as a key; only text and numbers"):
        read_tensors(write(tmp_path / "z.pth", hostile))


def test_what_is_read_of_a_training_checkpoint(tmp_path):
    tensor, model = tensor_op(), dict_op(w=tensor_op())
    path = tmp_path / "x.pth"
    both = dict_op(model=dict_op(other=tensor), state_dict=model, epoch=b"I3\n")
    assert set(read_tensors(write_zip(path, both))) == {"w"}
    parts = dict_op(netG=dict_op(**{"module.w": tensor}), netD=model, args=dict_op(lr=b"F0.1\n"))
    assert set(read_tensors(write_zip(path, parts))) == {"netG.w", "netD.w"}
    bare = dict_op(**{"module.w": tensor, "step": tensor})
    assert set(read_tensors(write_zip(path, bare))) == {"module.w", "step"}


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize("module", ["os", "posix", "builtins", "torch.storage"])
def test_code_is_refused_unrun(tmp_path, write, module):
    function = {"builtins": "eval", "torch.storage": "_load_from_bytes"}.get(module, "system")
    mark = tmp_path / "ran"
    hostile = b"c%s\n%s\n(Vtouch %s\ntR" % (module.encode(), function.encode(), bytes(mark))
    path = write(tmp_path / "x.pth", dict_op(w=tensor_op(), extra=hostile))
    with pytest.raises(ValueError, match=f"x.pth.*refused.*{module}.{function}"):
        read_tensors(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"numel": 7, "shape": (7,), "strides": (1,)},
        {"offset": 1},
        {"offset": -1},
        {"strides": (-3, 1)},
        {"strides": (3,)},
        {"strides": (2**62, 1)},
        {"kind": "DoubleStorage"},
    ],
)
def test_tensors_stay_inside_their_storage(tmp_path, wrong):
    path = write_zip(tmp_path / "x.pth", dict_op(w=tensor_op(**wrong)))
    with pytest.raises(ValueError, match=r"x\.pth.*damaged"):
        read_tensors(path)


def test_a_pickle_cannot_change_the_reader(tmp_path):
    """BUILD writes attributes into what was made before it."""
    functions = b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n"
    for target in (tensor_op(), *functions):
        build = target + b"(N(dV__defaults__\n(I9\ntstb"
        with pytest.raises(ValueError, match="x.pth cannot be read"):
            read_tensors(write_zip(tmp_path / "x.pth", dict_op(w=build)))
    assert read_tensors(write_zip(tmp_path / "x.pth", dict_op(w=tensor_op())))["w"].shape == (2, 3)


def test_other_files_are_named(tmp_path):
    path = tmp_path / "x.pth"
    good = dict_op(w=tensor_op())
    cases = {
        "neither a PyTorch": lambda: path.write_bytes(b"<html>"),
        "neither": lambda: path.write_bytes(b""),
        "TorchScript": lambda: write_zip(path, good, **{"constants.pkl": b""}),
        "big-endian": lambda: write_zip(path, good, byteorder=b"big"),
        "holds a list": lambda: write_zip(path, b"(l"),
        "holds no tensor": lambda: write_zip(path, dict_op(epoch=b"I3\n")),
        "BadZipFile": lambda: path.write_bytes(write_zip(path, good).read_bytes()[:100]),
        "EOFError|damaged": lambda: path.write_bytes(write_legacy(path, good).read_bytes()[:-8]),
    }
    for cause, make in cases.items():
        make()
        with pytest.raises(ValueError, match=rf"x\.pth.*({cause})"):
            read_tensors(path)
    with pytest.raises(FileNotFoundError, match="none.pth"):
        read_tensors(tmp_path / "none.pth")


def test_safetensors(tmp_path):
    tensors = {
        "f": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([1.5, -3], ml_dtypes.bfloat16),
        "i": np.array(7, np.int64),
    }
    path = tmp_path / "x.safetensors"
    save_file(tensors, path)
    read = read_tensors(path)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        np.testing.assert_array_equal(read[name], tensor)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="x.safetensors"):
        read_tensors(path)


def test_find_takes_the_first_and_names_all(tmp_path):
    (tmp_path / "b.bin").touch()
    assert find_published_file(str(tmp_path), "a.bin", "b.bin") == str(tmp_path / "b.bin")
    with pytest.raises(FileNotFoundError, match="none of c.bin, d.bin"):
        find_published_file(str(tmp_path), "c.bin", "d.bin")


def test_what_is_no_file_is_not_passed_over(tmp_path):
    (tmp_path / "pytorch_model.bin").touch()
    (tmp_path / "vocab.txt").touch()
    for name in ("model.safetensors", "tokenizer.json"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(DamagedFileError, match="model.safetensors: not a plain file; remove it"):
        find_weight_file(str(tmp_path))
    with pytest.raises(TokenizerError, match="tokenizer.json: not a plain file; remove it"):
        pretrained_tokenizer(str(tmp_path))


def test_all_shards_of_a_model_on_the_hub_are_found(tmp_path, monkeypatch):
    index, shard = "model.safetensors.index.json", "model-1.safetensors"
    (tmp_path / index).write_text(json.dumps({"weight_map": {"x": shard}}))
    names = {index, shard}

    def cached(name, file):
        if file not in names:
            raise OSError(f"no {file}")
        return str(tmp_path / file)

    monkeypatch.setattr("transformers.utils.cached_file", cached)
    assert find_weight_file("lab/bert") == str(tmp_path / index)
    names.remove(shard)
    with pytest.raises(FileNotFoundError, match=f"hf download lab/bert.*no {shard}"):
        find_weight_file("lab/bert")
