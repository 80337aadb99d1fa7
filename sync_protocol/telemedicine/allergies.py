"""Which drugs somebody with an allergy reacts to: classes of drugs, and the words in which allergies are written down.

An allergy is free text ("Penicillin", "sulfa", "दर्द की दवा", "rash after Brufen"). What it names is looked for: a class
by one of its words, or a drug, which stands for its classes and for itself. A class may *cross* to another: not the same,
near enough that a doctor is asked. Classes and crossings follow the WHO Model Formulary 2008 (2.1 and 6.2, on allergy
to penicillins, cephalosporins and sulfonamides), and for aspirin the class of cyclo-oxygenase inhibitors.

What it does not understand it does not guess: the case page shows every allergy as it was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from sync_protocol.telemedicine.naming import read, recognise, words_of

CLASSES: Final = """
penicillins: amoxicillin, ampicillin, cloxacillin, dicloxacillin, penicillin v, benzathine penicillin, benzylpenicillin,
 procaine penicillin, piperacillin
cephalosporins: cefalexin, cefadroxil, cefixime, cefpodoxime, cefuroxime, cefradine, cefaclor, cefazolin, cefotaxime,
 ceftriaxone, ceftazidime, cefoperazone, cefepime
carbapenems: meropenem, imipenem, ertapenem, faropenem
sulfonamides: co trimoxazole, sulfamethoxazole, sulfadiazine, silver sulfadiazine, sulfacetamide, sulfadoxine,
 sulfasalazine
sulfones: dapsone
nsaids: ibuprofen, diclofenac, aceclofenac, naproxen, mefenamic acid, piroxicam, etoricoxib, indometacin, nimesulide,
 ketoprofen, celecoxib, aspirin, ketorolac, flurbiprofen, nepafenac, salicylic acid
opioids: morphine, codeine, pethidine, fentanyl, tramadol, tapentadol, pentazocine, buprenorphine, butorphanol, nalbuphine,
 methadone, hydrocodone, oxycodone, dihydrocodeine, dextropropoxyphene, diphenoxylate, pholcodine
morphinans: dextromethorphan
macrolides: azithromycin, erythromycin, clarithromycin, roxithromycin
quinolones: ciprofloxacin, ofloxacin, norfloxacin, levofloxacin, moxifloxacin
tetracyclines: tetracycline, doxycycline, minocycline
aminoglycosides: gentamicin, amikacin, netilmicin, streptomycin, kanamycin, tobramycin, neomycin, framycetin
nitroimidazoles: metronidazole, tinidazole, ornidazole, secnidazole
azoles: clotrimazole, miconazole, ketoconazole, sertaconazole, luliconazole, fluconazole, itraconazole, voriconazole,
 posaconazole
ace inhibitors: enalapril, lisinopril, ramipril, captopril, perindopril
statins: atorvastatin, rosuvastatin, simvastatin
sulfonylureas: glibenclamide, glimepiride, gliclazide, glipizide, tolbutamide
aromatic antiepileptics: carbamazepine, oxcarbazepine, phenytoin, phenobarbital, lamotrigine
quinoline antimalarials: chloroquine, hydroxychloroquine, quinine, mefloquine, primaquine
local anaesthetics: lidocaine, bupivacaine, prilocaine, proparacaine
iodine: povidone iodine
phenothiazines: chlorpromazine, prochlorperazine, promethazine, fluphenazine, trifluoperazine
antihistamines: cetirizine, levocetirizine, hydroxyzine
iron preparations: iron, iron sucrose, ferric carboxymaltose, iron dextran
"""

CROSSES: Final[Mapping[str, tuple[str, ...]]] = {
    "penicillins": ("cephalosporins", "carbapenems"),
    "cephalosporins": ("penicillins", "carbapenems"),
    "carbapenems": ("penicillins", "cephalosporins"),
    "sulfonamides": ("sulfones",),
    "sulfones": ("sulfonamides",),
    "opioids": ("morphinans",),
}

WORDS: Final = """
penicillins: penicillin, pencillin, betalactam, beta lactam, पेनिसिलिन, पेनिसिलीन, पेनसिलिन, पैनिसिलिन
cephalosporins: cephalosporin, cefalosporin, cephalosporine, सेफालोस्पोरिन, सिफालोस्पोरिन
carbapenems: carbapenem
sulfonamides: sulfonamide, sulphonamide, sulfa, sulpha, sulfa drugs, सल्फा, सल्फर, सल्फोनामाइड
nsaids: nsaid, pain killer, painkiller, painkillers, pain killers, analgesic, analgesics, anti inflammatory, दर्द निवारक,
 दर्दनिवारक, दर्द की दवा, दर्द की गोली, पेनकिलर
opioids: opioid, opiate, opiates, ओपिओइड
macrolides: macrolide; quinolones: quinolone, fluoroquinolone, fluoroquinolones; tetracyclines: टेट्रासाइक्लिन
aminoglycosides: aminoglycoside; nitroimidazoles: nitroimidazole; azoles: azole; ace inhibitors: ace inhibitor, ace
statins: statin; sulfonylureas: sulfonylurea, sulphonylurea; aromatic antiepileptics: antiepileptic, anticonvulsant
quinoline antimalarials: antimalarial, antimalarials, मलेरिया की दवा; local anaesthetics: local anaesthetic, local anesthetic
iodine: iodine, iodide, contrast, आयोडीन; antihistamines: antihistamine; iron preparations: iron injection
"""

DRUGS_IN_HINDI: Final = """
aspirin: एस्पिरिन, ऐस्पिरिन, एस्प्रिन, डिस्प्रिन; paracetamol: पैरासिटामोल, पेरासिटामोल, पारासिटामोल, क्रोसिन
ibuprofen: आइबुप्रोफेन, इबुप्रोफेन, ब्रूफेन, ब्रुफेन, कॉम्बिफ्लेम; diclofenac: डाइक्लोफेनाक, डिक्लोफेनाक, वोवेरान
amoxicillin: एमोक्सिसिलिन, अमोक्सीसिलिन, एमोक्सिसिलीन; ciprofloxacin: सिप्रोफ्लोक्सासिन, सिप्रोफ्लोक्सेसिन
metronidazole: मेट्रोनिडाजोल, फ्लैजिल, मेट्रोजिल; azithromycin: एजिथ्रोमाइसिन; co trimoxazole: सेप्ट्रान
chloroquine: क्लोरोक्वीन; doxycycline: डॉक्सीसाइक्लिन; ceftriaxone: सेफ्ट्रिएक्सोन; tramadol: ट्रामाडोल
"""


@dataclass(frozen=True, slots=True)
class Met:
    """A drug that somebody may react to. allergy: as it was written. crossing: by a class that is only near."""

    drug: str
    allergy: str
    crossing: bool


@dataclass(frozen=True, slots=True)
class Meant:
    """What an allergy names. written: as it was written. near: classes that its own cross to."""

    written: str
    drugs: frozenset[str]
    classes: frozenset[str]
    near: frozenset[str]


@cache
def _classes_of() -> Mapping[str, frozenset[str]]:
    """Generic name → its classes."""
    found: dict[str, set[str]] = {}
    for name, members in read(CLASSES):
        for member in members:
            found.setdefault(member, set()).add(name)
    return {drug: frozenset(classes) for drug, classes in found.items()}


@cache
def _phrases() -> tuple[tuple[tuple[str, ...], str, bool], ...]:
    """(folded words, what they name, whether that is a class)."""
    classes = [(one, name, True) for name, others in read(WORDS) for one in (name, *others)]
    hindi = [(one, name, False) for name, others in read(DRUGS_IN_HINDI) for one in others]
    return tuple((tuple(words_of(text)), name, is_class) for text, name, is_class in (*classes, *hindi))


def _meant(written: str, text: str) -> Meant:
    words = words_of(text)
    named = set(recognise(text).drugs)
    classes: set[str] = set()
    for phrase, name, is_class in _phrases():
        if any(tuple(words[at : at + len(phrase)]) == phrase for at in range(len(words))):
            (classes if is_class else named).add(name)
    for drug in named:
        classes |= _classes_of().get(drug, frozenset())
    near = {crossed for one in classes for crossed in CROSSES.get(one, ())}
    return Meant(written, frozenset(named), frozenset(classes), frozenset(near))


def met(drugs: Sequence[str], meant: Sequence[Meant]) -> list[Met]:
    """Which of these drugs (generic names) somebody reacts to who is allergic to this. meant: of `understood`."""
    found = []
    for allergy in meant:
        for drug in drugs:
            classes = _classes_of().get(drug, frozenset())
            if drug in allergy.drugs or classes & allergy.classes:
                found.append(Met(drug, allergy.written, crossing=False))
            elif classes & allergy.near:
                found.append(Met(drug, allergy.written, crossing=True))
    return found


def understood(allergies: Mapping[str, str]) -> list[Meant]:
    """What is meant by allergies: as it was written → all that is known of it, to be searched. Those that name nothing
    known are left out."""
    found = [_meant(written, text) for written, text in allergies.items()]
    return [one for one in found if one.drugs or one.classes]
