"""Named data sets: what each is, who made it, under which licence, and which bytes it must have."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qkv.errors import DataError, unknown_name
from qkv.files import require_file


@dataclass(frozen=True)
class NamedSet:
    """A published data set, kept as one file under the folder that `QKV_DATA` names.

    Attributes:
        file: its place in that folder.
        sha256: of the file as published here.
        options: how its reader is to be called.
    """

    description: str
    file: str
    sha256: str
    licence: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)


SETS: dict[str, NamedSet] = {
    "eng-fra": NamedSet(
        description="French to English: 128,503 sentence pairs of the Tatoeba project",
        file="eng-fra/eng-fra.txt.gz",
        sha256="ba1246b1ec2bd027c4e02dabd2cb215a0c0d7a846e43f7d8a34efa55d2b3e7e1",
        licence="CC BY 2.0",
        source="tatoeba.org, joined by www.manythings.org/anki (edition of 2017-09-29)",
        # Each line is English, tab, French.
        options={"columns": (1, 0)},
    ),
    "glove-6b-50d": NamedSet(
        description="GloVe vectors of 51,204 English words in lower case, 50 dimensions",
        file="glove-6b-50d/glove.6B.50d.part.txt.gz",
        sha256="706dce139a186880cc56ddf02c9f279faa2368739f3e279dadf8e2a545640c8d",
        licence="PDDL 1.0",
        source="Pennington, Socher and Manning, nlp.stanford.edu/projects/glove",
    ),
    "nlm-250": NamedSet(
        description="372,500 4-grams of short English sentences over 250 words and a mask, and 46,500 more twice",
        file="nlm-250/ngrams_masked.npz",
        sha256="be7017fdf48c1e45b7677639ed55d2176e5e546e4ec2c3beace75c75368d38c2",
        licence="none stated",
        source="University of Toronto, teaching material of CSC321 and CSC413",
    ),
    "sentiment140": NamedSet(
        description="78,973 tweets of April to June 2009, negative or positive, to train on; its `test` to judge by",
        file="sentiment140/train.csv.gz",
        sha256="ca8d5f5250c40cee75d2a0928190b9d5cc4b595e49b80903ae7108f2f2fe7a8d",
        licence="none stated, given for research",
        source="Go, Bhayani and Huang 2009, help.sentiment140.com (a part of it)",
        # The rows that are not from the whole range of dates confound date and label: they are judged apart.
        options={"group": "whole_range", "test": "sentiment140-valid"},
    ),
    "sentiment140-valid": NamedSet(
        description="26,323 more of those tweets",
        file="sentiment140/valid.csv.gz",
        sha256="0a9f59e9aa24d2b37fda9b287def358905d930819e504561bf237890511bbd9c",
        licence="none stated, given for research",
        source="Go, Bhayani and Huang 2009, help.sentiment140.com (a part of it)",
        options={"group": "whole_range"},
    ),
    "sentiment140-manual": NamedSet(
        description="359 tweets labelled by hand, negative or positive; 139 neutral ones among them are left out",
        file="sentiment140/manual_test.csv.gz",
        sha256="cbf7986e75d3f827e1fb01295ed509cc088f5a465f49c75c420ceb41a061dd3f",
        licence="none stated, given for research",
        source="Go, Bhayani and Huang 2009, help.sentiment140.com",
        options={"left_out": ("neutral",)},
    ),
    "fsdd": NamedSet(
        description="spoken digits: 2,500 recordings of five of the six speakers, 8 kHz",
        file="fsdd/fsdd.zip",
        sha256="acd6c5ce788ea7fb0bcce12ddadb512b933add7d21b0014790732f11e92865be",
        licence="CC BY-SA 4.0",
        source="Zohar Jackson and others, github.com/Jakobovski/free-spoken-digit-dataset",
    ),
    "ljspeech-part": NamedSet(
        description="308 clips of one reader as log-mel features with their texts, of the 13,100 of LJ Speech",
        file="ljspeech-part/train.npz",
        sha256="497f2f819d3bd3052da1bb33ac7cf8e00074395735c8f53e7b942b8a68dc96c6",
        licence="public domain",
        source="Keith Ito and Linda Johnson, keithito.com/LJ-Speech-Dataset",
    ),
    "chameleon": NamedSet(
        description="Wikipedia articles about chameleons and their links: 2,277 nodes, monthly traffic of 1,822",
        file="wikipedia-network/musae_chameleon_edges.csv.gz",
        sha256="4fd4ccaa78e8e95064317c9ded5e8ff5e22f180e284db02a5d8d38b8ff66cd92",
        licence="GPL 3.0 (the collection), CC BY-SA (the articles)",
        source="Rozemberczki, Allen and Sarkar 2019, github.com/benedekrozemberczki/MUSAE",
        # What lies beside the edges: its name, and its SHA-256.
        options={
            "features": (
                "musae_chameleon_features.json.gz",
                "46055a67073b35314929825f5517560b77aa64e06ecfca9ed0bd086f5009930b",
            ),
            "target": (
                "musae_chameleon_target.csv",
                "aab0d7084c75da8084571bd00a4dbecfbb1e8034ce2aba735c561992e6c4c869",
            ),
            "masks": (
                "geomgcn_chameleon_masks.npz",
                "19e9afc02781dea7d351cbfbf1370b846d89aeb825d271d8d4d76e5b30b97384",
            ),
        },
    ),
    "squirrel": NamedSet(
        description="Wikipedia articles about squirrels and their links: 5,201 nodes, monthly traffic of 4,161",
        file="wikipedia-network/musae_squirrel_edges.csv.gz",
        sha256="d7b275ad7ce4951a89b82145fa907633d029d32d63d6e82070d4f8f549763949",
        licence="GPL 3.0 (the collection), CC BY-SA (the articles)",
        source="Rozemberczki, Allen and Sarkar 2019, github.com/benedekrozemberczki/MUSAE",
        # What lies beside the edges: its name, and its SHA-256.
        options={
            "features": (
                "musae_squirrel_features.json.gz",
                "e7bca365689b13272cd6c94f611bf763c684e000eaaab3cc5c94ee3f44e880eb",
            ),
            "target": ("musae_squirrel_target.csv", "911962a4f144e63ef94dde5967393b8a25fc1b6886250cc2c059ceca0f1ad004"),
            "masks": ("geomgcn_squirrel_masks.npz", "3d205a18f772b01f78531e28b0561e2fab6e09e8748d8ac74cf84845dd19b9aa"),
        },
    ),
    "crocodile": NamedSet(
        description="Wikipedia articles about crocodiles and their links: 11,631 nodes, monthly traffic of 9,305",
        file="wikipedia-network/musae_crocodile_edges.csv.gz",
        sha256="cfcf7b22943f5849a87d4862fe3508e617def7a8d134c85b2cadbcf1fa63f134",
        licence="GPL 3.0 (the collection), CC BY-SA (the articles)",
        source="Rozemberczki, Allen and Sarkar 2019, github.com/benedekrozemberczki/MUSAE",
        # What lies beside the edges: its name, and its SHA-256.
        options={
            "target": (
                "musae_crocodile_target.csv",
                "994a679432388399f4707cefdddfbce74ea5941c910cc7dec717e27d79acc5a0",
            ),
        },
    ),
    "fashion-mnist": NamedSet(
        description="28 x 28 grey images of clothes, 10 classes: 20,000 to train on, 5,000 to choose by",
        file="fashion-mnist/fashion_mnist_20k.npz",
        sha256="bf018d72dc58bf91f30760107de7b058c1ff41272cc21d75089f818051bfc406",
        licence="MIT",
        source="Xiao, Rasul and Vollgraf 2017, Zalando Research (a part of the training images)",
        options={
            "names": (
                "T-shirt/top",
                "trouser",
                "pullover",
                "dress",
                "coat",
                "sandal",
                "shirt",
                "sneaker",
                "bag",
                "ankle boot",
            )
        },
    ),
    "pneumoniamnist": NamedSet(
        description="28 x 28 chest X-rays of children, normal or pneumonia: 2,428 to train on, 270 to choose by",
        file="pneumoniamnist/pneumoniamnist.npz",
        sha256="f1f8fd903c4a04a10eebfa4a57d9ec47f05c7351311d5f571e47fc168ddcd397",
        licence="CC BY 4.0",
        source="Yang and others 2023, MedMNIST; images of Kermany and others 2018 (a balanced copy)",
        options={"names": ("normal", "pneumonia")},
    ),
    "wordsim353": NamedSet(
        description="relatedness of 183 pairs of words, of WordSim-353's",
        file="word-similarity/wordsim353.tsv",
        sha256="58158c330767226358425b15879a8d45890c7fe230d8c1655d6c81903b1cdbcd",
        licence="CC BY 4.0",
        source="Finkelstein and others 2002",
    ),
    "simlex999": NamedSet(
        description="similarity of 509 pairs of words, of SimLex-999's",
        file="word-similarity/simlex999.tsv",
        sha256="d543509f02282a4bf00571cceed7871b545ed49daad1c675c40cfa304cced74d",
        licence="free for research",
        source="Hill, Reichart and Korhonen 2015",
    ),
    "men3000": NamedSet(
        description="relatedness of 1,470 pairs of words, of MEN's 3,000",
        file="word-similarity/men3000.tsv",
        sha256="a74b6083d530de865e95c8ed75ab10168ad4dd271f7d27651e95032eaa3bbea5",
        licence="CC BY",
        source="Bruni, Tran and Baroni 2014",
    ),
    "rg65": NamedSet(
        description="similarity of 30 pairs of words, of the 65 of Rubenstein and Goodenough",
        file="word-similarity/rg65.tsv",
        sha256="5a7ac235357bf8bdc0af96375bd6d7a8656d5ef83c960bf0edea2ffb2b8d24f4",
        licence="not stated",
        source="Rubenstein and Goodenough 1965",
    ),
    "mturk771": NamedSet(
        description="relatedness of 389 pairs of words, of MTurk-771's",
        file="word-similarity/mturk771.tsv",
        sha256="32f6f3dd01503be741660cad85cb7ce8b066bd446206d5976b1a381ce81e6814",
        licence="not stated",
        source="Halawi and others 2012",
    ),
    "rw2034": NamedSet(
        description="similarity of 1,047 pairs of rare words, of Stanford's 2,034",
        file="word-similarity/rw2034.tsv",
        sha256="5ec99ab6e538552a0f6f945882236657b39d66143dd45da7e47fb5c4cf208e52",
        licence="not stated",
        source="Luong, Socher and Manning 2013",
    ),
    "simverb3500": NamedSet(
        description="similarity of 1,738 pairs of verbs, of SimVerb-3500's",
        file="word-similarity/simverb3500.tsv",
        sha256="aaeb564ee70eda75afe2c34dc27a171f209a2b3eabbbf6ea485bd1b7c4b35cd2",
        licence="not stated",
        source="Gerz and others 2016",
    ),
    "questions-words": NamedSet(
        description="9,759 analogies in 14 categories, of Google's 19,544",
        file="word-similarity/questions-words.txt",
        sha256="91c98684e7a18c3ffd039f89dd6a9c8f501b54c82affa1865aa8fabbd5aae553",
        licence="Apache 2.0",
        source="Mikolov and others 2013",
    ),
}


def present_word_sets() -> list[str]:
    """The names of the sets that word vectors are judged by and that are on this machine.

    Raises:
        DataError: there are none.
    """
    names = [name for name, known in SETS.items() if known.file.startswith("word-similarity/")]
    root = os.environ.get("QKV_DATA")
    present = [name for name in names if root and (Path(root) / SETS[name].file).exists()]
    if not present:
        find(names[0])  # says what is missing, and where
    return present


def find(name: str | Path) -> Path:
    """The file of a named set, or `name` itself where it is a path that exists.

    Raises:
        InputError: no set has that name, and it is no path.
        DataError: the set is known, but not on this machine; or the path leads nowhere.
    """
    known = SETS.get(str(name))
    # In the folder that holds the sets, each set's name is also that of its folder.
    if Path(name).is_file() or (known is None and Path(name).exists()):
        return Path(name)
    if known is None:
        # What looks like a path is a path.
        if len(Path(name).parts) > 1 or Path(name).suffix:
            return require_file(name)
        raise unknown_name("data set", str(name), SETS, hint="the path of a file")
    root = os.environ.get("QKV_DATA")
    path = Path(root or ".") / known.file
    if not (root and path.exists()):
        raise DataError(
            f"the data set {name!r} is not on this machine",
            expected=f"{path}" if root else f"{known.file} under the folder that QKV_DATA names",
            got="no such file" if root else "QKV_DATA is not set",
            hint=f"set QKV_DATA to the folder above {known.file}, or pass the path of a file",
        )
    return path


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with require_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(name: str) -> Path:
    """The file of a named set, if it has the bytes that were published.

    Raises:
        InputError: no set has that name.
        DataError: the file is absent, or has another SHA-256.
    """
    if name not in SETS:
        raise unknown_name("data set", name, SETS)
    path, expected = find(name), SETS[name].sha256
    if (got := sha256_of(path)) != expected:
        raise DataError(
            "not the published file", expected=f"SHA-256 {expected}", got=got, hint="fetch it again", path=path
        )
    return path
