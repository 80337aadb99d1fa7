"""The table of drugs: for each of common use in a health centre, its list, by generic name, with spellings and brands.

The lists are those of India's Telemedicine Practice Guidelines (25 March 2020, section 3.7.4 and annexure 1, as amended
on 11 April 2020). The annexure gives examples and ends each with "etc."; what is here beyond them was put on a list by
the same measure, and where that left a doubt, on the stricter one:

    O             over the counter, and what is notified for public health emergencies
    A             relatively safe, low potential for abuse: skin, eyes and ears; the centre's common oral drugs; refills
    B             all others that are known here: add-ons at a follow-up
    prohibited    Schedule X of the Drugs and Cosmetics Rules; narcotic drugs and psychotropic substances (NDPS Act 1985
                  and its notifications; codeine and diphenoxylate in any strength, although small doses are exempt from
                  parts of the Act: the guidelines know no such exemption). Phenobarbital, clobazam and clonazepam are
                  list A since 11 April 2020, although the NDPS Act lists them.

A line is ``name: other names; name; …``. It refuses to know how names are compared (`naming`) and what follows (the
package itself).
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 2
"""One more with each change of a list: which table a reply was written under can be told from the program's version."""

LIST_O: Final = """
paracetamol: acetaminophen, pcm, calpol, crocin, dolo, metacin, febrex, p 500, p 650
ors: oral rehydration salts, oral rehydration solution, oral rehydration salt, electral, jeevan jal, who formula
zinc: zinc sulphate, zinc acetate, zinc gluconate; iron: ferrous sulphate, ferrous fumarate, ferrous ascorbate, ferrous
 salts, ferrous, fersolate, carbonyl iron, livogen, autrin; folic acid: folate, folvite
calcium: calcium carbonate, calcium citrate, shelcal; vitamin d: vitamin d3, cholecalciferol, ergocalciferol, calcirol
vitamin c: ascorbic acid, limcee, celin; vitamin b complex: b complex, becosules, bcomplex; vitamin e: tocopherol, alpha
 tocopherol, evion; vitamin a: retinol; thiamine: vitamin b1; riboflavin: vitamin b2; pyridoxine: vitamin b6;
 nicotinamide: niacinamide, vitamin b3; vitamin b12: cyanocobalamin, methylcobalamin, mecobalamin, cynocobalamine,
 methyl cobalmin; multivitamin: multivitamins, multi vitamin, vitamins, zincovit, multimineral; panthenol
lozenges: cough lozenges, strepsils, throat lozenges, vicks; menthol; acetylcysteine: n acetyl cysteine, n acetyl l
 cysteine, acetyl cysteine; ammonium chloride; guaifenesin: guaiphenesin, glyceryl guaiacolate; ambroxol; bromhexine:
 bromhexene; dextromethorphan; sodium citrate; potassium citrate: disodium hydrogen citrate; camphor; eucalyptus
antacid: aluminium hydroxide, aluminum hydroxide, magnesium hydroxide, magaldrate, digene, gelusil, eno; simethicone:
 dimethicone, activated dimethicone, simeticone; isabgol: ispaghula, psyllium; glycerin: glycerine, glycerol
chloroquine: lariago, choloroquine; povidone iodine: betadine, povidone; chlorhexidine; cetrimide; lactobacillus:
 lactobacilus, lacto bacillus, probiotic, bacillus clausii, bacillus clausi, saccharomyces boulardii; diastase: papain,
 pancreatin, unienzyme, multienzyme; petroleum jelly: white soft paraffin; liquid paraffin: paraffin; saline: sodium
 chloride, normal saline, nacl; condoms: condom, nirodh; turpentine; lanolin; halazone: halazon, chlorine tablet
"""

LIST_A: Final = """
clotrimazole: candid, candiderm; miconazole; ketoconazole; sertaconazole; luliconazole; terbinafine; mupirocin;
 fusidic acid: fusidate; framycetin: soframycin; neomycin; bacitracin; polymyxin b; neosporin; silver sulfadiazine: silver
 sulphadiazine; calamine: caladryl; benzyl benzoate; permethrin; gamma benzene hexachloride: lindane, gamma benzine
 hexachloride; crotamiton; ivermectin; salicylic acid: salicylate, methyl salicylate, choline salicylate; benzoic acid:
 whitfield; benzoyl peroxide; adapalene; azelaic acid; clindamycin; coal tar; urea; zinc oxide; hydrocortisone;
 betamethasone: betnovate; mometasone; clobetasol; fluticasone: fluticazone; beclomethasone: beclometasone;
 triamcinolone; aciclovir: acyclovir; gentian violet: crystal violet; potassium permanganate; glycolic acid; minoxidil;
 tretinoin; crisaborole; acriflavine: acriflavin
ciprofloxacin: ciplox, cifran; moxifloxacin; ofloxacin; tobramycin; chloramphenicol; sulfacetamide: sulphacetamide;
 carboxymethylcellulose: carboxymethyl cellulose, artificial tears; hypromellose: hydroxypropyl methylcellulose,
 hydroxypropylmethyl cellulose, hydroxy propyl methyl cellulose, methylcellulose, methyl cellulose; olopatadine;
 bepotastine; naphazoline; flurbiprofen; nepafenac; ketorolac; timolol; betaxolol; brimonidine; latanoprost; dorzolamide;
 pilocarpine; natamycin; xylometazoline: otrivin; oxymetazoline: nasivion; para dichlorobenzene: paradichlorobenzene, wax
 dissolving solution, ear wax drops, soliwax; fluorometholone; loteprednol
amoxicillin: amoxycillin, mox, amoxil; clavulanic acid: clavulinic acid, clavulanate, potassium clavulanate; ampicillin;
 cloxacillin; dicloxacillin; penicillin v: phenoxymethylpenicillin; cefalexin: cephalexin; cefadroxil; cefixime: zifi,
 taxim o; cefpodoxime; cefuroxime; cefradine: cephradine; cefaclor; azithromycin: azithral, azee; erythromycin;
 clarithromycin; roxithromycin; doxycycline: doxy; tetracycline; minocycline; co trimoxazole: cotrimoxazole, septran,
 bactrim, sulfamethoxazole trimethoprim; sulfamethoxazole: sulphamethoxazole; trimethoprim; nitrofurantoin; norfloxacin:
 norflox; levofloxacin: levoflox; metronidazole: flagyl, metrogyl; tinidazole; ornidazole; secnidazole; furazolidone;
 rifaximin; fosfomycin; albendazole: zentel; mebendazole; praziquantel; niclosamide; pyrantel; piperazine;
 diethylcarbamazine: dec, diethyl carbamazine, diethylcarbamazin, hetrazan; fluconazole; griseofulvin; itraconazole;
 nystatin; diloxanide; artemether; artesunate: act; artemisinin; lumefantrine; sulfadoxine: sulphadoxine;
 pyrimethamine: pyremethamine; primaquine; quinine; oseltamivir: oseltamavir; dapsone; clofazimine
ibuprofen: brufen; diclofenac: voveran, volini; aceclofenac; naproxen; mefenamic acid: mefenamic, mefanamic acid, meftal;
 piroxicam; etoricoxib; indometacin: indomethacin; nimesulide; ketoprofen; celecoxib; aspirin: acetylsalicylic acid,
 acetyl salicylic acid, asa, disprin, ecosprin; serratiopeptidase; trypsin: chymotrypsin, trypsin chymotrypsin,
 chymotripsin; chlorzoxazone: chloroxazone; methocarbamol; thiocolchicoside; tolperisone; tizanidine; sumatriptan:
 sumotripton; glucosamine; diacerein; linseed oil: linesed oil; colchicine: colchine
cetirizine: cetrizine, cetzine; levocetirizine: levo cetrizine, levo cetirizine; loratadine; desloratadine;
 fexofenadine: allegra; ebastine; chlorpheniramine: chlorphenamine, chloropheniramine, cpm;
 dexchlorpheniramine; pheniramine: avil; diphenhydramine: benadryl; promethazine: phenergan; hydroxyzine: atarax;
 cyproheptadine; montelukast; cinnarizine; betahistine; flunarizine; dimenhydrinate; meclizine: meclozine;
 prochlorperazine: stemetil; doxylamine: doxilamine; phenylephrine; pseudoephedrine; salbutamol: albuterol, asthalin;
 levosalbutamol: levalbuterol, levo salbutamol; terbutaline: terbutalin; ipratropium; budesonide: budenoside;
 formoterol; salmeterol: salameterol, salmetrol; tiotropium; theophylline; etofylline: etophylline;
 doxofylline; ciclesonide
omeprazole: omez; pantoprazole: pan, pantop; rabeprazole; esomeprazole; lansoprazole; ranitidine: rantac, zinetac, aciloc;
 famotidine; sucralfate; domperidone: domstal; metoclopramide: perinorm; ondansetron: emeset; dicyclomine: dicycloverine,
 dicyclomin; drotaverine; hyoscine butylbromide: hyoscine butyl bromide, hyoscine, buscopan; propantheline; mebeverine;
 loperamide: imodium, eldoper; racecadotril: redotil; lactulose; bisacodyl: dulcolax; sodium picosulfate; senna;
 ursodeoxycholic acid: ursodiol, ursodeoxy colic acid, udiliv; mesalazine: mesalamine; sulfasalazine; flavoxate;
 tamsulosin; silodosin; dutasteride; finasteride; calcium dobesilate; silymarin; feracrylum
amlodipine: amlong; nifedipine; atenolol; metoprolol; bisoprolol; carvedilol; propranolol: ciplar; labetalol: labetolol;
 nebivolol; enalapril; lisinopril; ramipril; captopril; perindopril; losartan; telmisartan: telma; olmesartan; valsartan;
 hydrochlorothiazide: hydrochlorthiazide; chlorthalidone: chlortalidone, chlorthiazide; indapamide; furosemide:
 frusemide, lasix; torasemide: torsemide, dytor; spironolactone; prazosin; methyldopa; clonidine; diltiazem; verapamil;
 isosorbide mononitrate: isosorbide dinitrate, isosorbide, isordil, isosorbide 5 mononitrate, sorbitrate;
 glyceryl trinitrate: nitroglycerin, nitroglycerine; clopidogrel: clopidagrel; atorvastatin; rosuvastatin; simvastatin;
 fenofibrate; metformin: glycomet; glibenclamide: glyburide; glimepiride: glimipiride, glimipride; gliclazide;
 glipizide; tolbutamide; pioglitazone; voglibose; acarbose;
 insulin: glargine, insulin glargine, insulin aspart, insulin lispro, insulin degludec, insulin glulisine,
 nph, isophane, isophase, lente, huminsulin, mixtard;
 levothyroxine: thyroxine, thyronorm, eltroxin; carbimazole; trimetazidine; ivabradine; allopurinol; febuxostat
phenobarbital: phenobarbitone, gardenal; clobazam: frisium; clonazepam: lonazep; carbamazepine: tegretol; phenytoin:
 eptoin; sodium valproate: valproate, valproic acid, divalproex, valparin; levetiracetam; oxcarbazepine; lamotrigine;
 amitriptyline; escitalopram; fluoxetine; sertraline; trihexyphenidyl: pacitane; levodopa; carbidopa
tranexamic acid; ethamsylate: etamsylate; norethisterone: norethindrone; medroxyprogesterone: medroxy progesterone;
 levonorgestrel: i pill, unwanted 72; ethinylestradiol: ethinyl estradiol, mala n, mala d; ormeloxifene: centchroman,
 chhaya; progesterone; isoxsuprine; nicotine: nicotex; caffeine; citicoline
"""

LIST_B: Final = """
sitagliptin; vildagliptin; linagliptin; teneligliptin; dapagliflozin; empagliflozin; canagliflozin; hydralazine;
 amiloride; triamterene; metolazone; sacubitril; digoxin; amiodarone; procainamide; adenosine; esmolol; warfarin;
 acenocoumarol; dabigatran; apixaban; rivaroxaban; ticagrelor; prasugrel; heparin; enoxaparin: enoxparin; streptokinase;
 alteplase; urokinase; eptifibatide; dobutamine; dopamine; adrenaline: epinephrine; noradrenaline: norepinephrine;
 vasopressin; isoprenaline; mephentermine; atropine; glycopyrrolate: glycopyrolate, glycopyrronium; neostigmine;
 pyridostigmine; nitroprusside: sodium nitroprusside; acetazolamide; mannitol; alprostadil
prednisolone: wysolone, omnacortil; methylprednisolone: methyl prednisolone, methyl prednesolone; dexamethasone; deflazacort;
 methotrexate; azathioprine; hydroxychloroquine: hcqs; leflunomide; ciclosporin: cyclosporine; cyclophosphamide;
 tacrolimus; mycophenolate; penicillamine; baclofen; tolvaptan; zoledronic acid; alendronic acid: alendronate; raloxifene
tapentadol; pregabalin; gabapentin; duloxetine; venlafaxine; mirtazapine; imipramine; clomipramine;
 nortriptyline; dosulepin; paroxetine; lithium; haloperidol; chlorpromazine; fluphenazine; trifluoperazine; risperidone:
 risperiddone; olanzapine: olazapine; quetiapine; clozapine; aripiprazole; amisulpride; atomoxetine; bupropion; donepezil;
 buspirone; propofol; thiopental: thiopentone, thiopentore; halothane; isoflurane; sevoflurane; nitrous oxide; butorphanol;
 nalbuphine; naloxone; naltrexone; acamprosate; disulfiram; topiramate; ethosuximide; vigabatrin; bromocriptine; cabergoline
benzathine penicillin: penidure, benzathine benzylpenicillin; benzylpenicillin: benzyl penicillin, penicillin g,
 crystalline penicillin; procaine penicillin: procaine benzylpenicillin; piperacillin; tazobactam; sulbactam: salbactum;
 cefazolin; cefotaxime: taxim; ceftriaxone: monocef; ceftazidime; cefoperazone; cefepime; meropenem; imipenem; ertapenem;
 faropenem; gentamicin: gentamycin, gentamycine; amikacin; netilmicin: netilmycin; streptomycin; kanamycin; vancomycin;
 teicoplanin; linezolid; colistin; isoniazid: inh; rifampicin: rifampin, rifabain; rifabutin; pyrazinamide;
 ethambutol; cycloserine: cycloceren; ethionamide; bedaquiline; delamanid; amphotericin b: amphotericin; voriconazole;
 posaconazole; mefloquine; arteether; zidovudine; lamivudine: lamavudine; stavudine; nevirapine;
 efavirenz; tenofovir; dolutegravir; abacavir; didanosine; indinavir; nelfinavir; saquinavir; lopinavir; ritonavir;
 atazanavir; emtricitabine; entecavir: entacavir; sofosbuvir; daclatasvir; remdesivir; favipiravir; molnupiravir;
 sulfadiazine: sulphadiazine
oxytocin; misoprostol; mifepristone; methylergometrine: methyl ergometrine, methylergonovine; carboprost; dinoprostone;
 clomifene: clomiphene; letrozole; danazol; oestradiol: estradiol; testosterone; human chorionic gonadotropin: hcg;
 magnesium sulfate: magnesium sulphate; anti d immunoglobulin: anti d, anti d immunoglobin; valethamate: valathamate;
 tamoxifen; thalidomide; hydroxyurea: hydroxycarbamide; imatinib; isotretinoin; dithranol; desferrioxamine: deferoxamine;
 deferasirox; deferiprone; erythropoietin; iron sucrose; ferric carboxymaltose: ferric carboxy maltose, feric carboxy
 maltose; iron dextran; vitamin k: phytomenadione, phytonadione, vitamin k1; calcium gluconate; sodium bicarbonate;
 potassium chloride; dextrose: glucose; ringer lactate: ringers lactate; dextran; albumin; oxygen; octreotide
lidocaine: lignocaine, xylocaine, lox; bupivacaine; prilocaine; proparacaine; atracurium; vecuronium; pancuronium;
 suxamethonium: succinylcholine, succinyl choline; flumazenil; protamine; pralidoxime; dimercaprol; snake antivenom:
 antisnake venom, anti snake venom, asv; tetanus toxoid: tetanus vaccine, tetanus; diphtheria toxoid: diptheria; rabies
 vaccine: anti rabies vaccine, arv; rabies immunoglobulin: rabies immunoglobin, rabies; hepatitis b vaccine: hepatitis;
 vaccine; immunoglobulin: immunoglobin; tropicamide; homatropine; cyclopentolate; fluorescein; glucagon; activated charcoal:
 charcoal; methylene blue: methylthioninium; ornithine: l ornithine; arginine: l arginine; carboplatin; cisplatin;
 paclitaxel; doxorubicin; fluorouracil; mercaptopurine; vincristine; bleomycin; gemcitabine; interferon: alpha interferon
"""

SCHEDULE_X: Final = """
amobarbital: amobarbitone; amphetamine: amfetamine; barbital: barbitone; cyclobarbital: cyclobarbitone; dexamphetamine:
 dexamfetamine, dextroamphetamine; ethchlorvynol; glutethimide; ketamine: ketalar; meprobamate; methamphetamine:
 metamfetamine; methylphenidate: ritalin, inspiral; methylphenobarbital: methylphenobarbitone; pentobarbital:
 pentobarbitone; phencyclidine; phenmetrazine; secobarbital: secobarbitone
"""

NARCOTIC: Final = """
morphine; codeine: corex, phensedyl; pethidine: meperidine; fentanyl: fentanil; alfentanil; sufentanil; remifentanil;
 methadone; hydrocodone; hydromorphone; oxycodone; oxymorphone; dihydrocodeine; dextropropoxyphene: propoxyphene,
 proxyvon, spasmo proxyvon; diphenoxylate: lomotil; pholcodine; ethylmorphine; dextromoramide; levorphanol; opium: afim;
 diamorphine: diacetylmorphine, heroin; cocaine; cannabis: ganja, charas, bhang, cannabidiol; thebaine
"""

PSYCHOTROPIC: Final = """
alprazolam: alprax, restyl, trika, alzolam, xanax; diazepam: valium, calmpose; lorazepam: ativan; nitrazepam: nitravet,
 nitrosun; chlordiazepoxide: librium, chlordiazapoxide; midazolam: midozolam; oxazepam; temazepam; triazolam; flurazepam;
 flunitrazepam; bromazepam; estazolam; etizolam: etilaam; clorazepate; prazepam; medazepam; nordazepam; lormetazepam;
 loprazolam; ketazolam; halazepam; brotizolam; zolpidem: zolfresh, stilnoct; tramadol: contramal, tramazac;
 pentazocine: fortwin; buprenorphine: addnok; butalbital; allobarbital; phentermine; mazindol; amfepramone: diethylpropion;
 phendimetrazine; benzphetamine: benzfetamine; pemoline; fenetylline; methaqualone; mecloqualone; cathine; zipeprol;
 gamma hydroxybutyrate: sodium oxybate; lysergide: lysergic acid diethylamide; mdma: ecstasy; mescaline; psilocybine;
 tetrahydrocannabinol: dronabinol
"""

BRANDS: Final = """
ifa: iron + folic acid; combiflam: ibuprofen + paracetamol; augmentin: amoxicillin + clavulanic acid; clavam:
 amoxicillin + clavulanic acid; cyclopam: dicyclomine + paracetamol; meftal spas: mefenamic acid + dicyclomine;
 deriphyllin: etofylline + theophylline; sinarest: paracetamol + chlorpheniramine + phenylephrine; zerodol p:
 aceclofenac + paracetamol; emla: lidocaine + prilocaine; o2: ofloxacin + ornidazole; pan d: pantoprazole +
 domperidone; ultracet: tramadol + paracetamol; losartan h: losartan + hydrochlorothiazide; telma h: telmisartan +
 hydrochlorothiazide; telma am: telmisartan + amlodipine; telvas 3d: telmisartan + amlodipine + hydrochlorothiazide
"""
"""Everyday names of fixed combinations, and of what they are made."""

ABBREVIATIONS: Final = """
apap: paracetamol; p500: paracetamol; p650: paracetamol; nac: acetylcysteine; mvi: multivitamin; mvt: multivitamin;
 vit a: vitamin a; vit b complex: vitamin b complex; vit c: vitamin c; vit d: vitamin d; vit d3: vitamin d; d3: vitamin d;
 vit e: vitamin e; vit k: vitamin k; vit b1: thiamine; b1: thiamine; vit b2: riboflavin; b2: riboflavin; vit b3:
 nicotinamide; b3: nicotinamide; vit b6: pyridoxine; b6: pyridoxine; vit b12: vitamin b12; b12: vitamin b12; ns: saline
amox: amoxicillin; amx: amoxicillin; cv: clavulanic acid; azithro: azithromycin; azm: azithromycin; erythro: erythromycin;
 cipro: ciprofloxacin; levo: levofloxacin; mtz: metronidazole; metro: metronidazole; tmp: trimethoprim;
 smx: sulfamethoxazole; smz: sulfamethoxazole; ssd: silver sulfadiazine; bpo: benzoyl peroxide; pzq: praziquantel;
 ivm: ivermectin; cfz: clofazimine; kmno4: potassium permanganate; cmc: carboxymethylcellulose; hpmc: hypromellose
diclo: diclofenac; aceclo: aceclofenac; nise: nimesulide; mefenam: mefenamic acid; ssz: sulfasalazine;
 5 asa: mesalazine; udca: ursodeoxycholic acid; gtn: glyceryl trinitrate; ntg: glyceryl trinitrate; ismn: isosorbide
 mononitrate; isdn: isosorbide mononitrate; hctz: hydrochlorothiazide; hct: hydrochlorothiazide; lt4: levothyroxine;
 vpa: sodium valproate; cbz: carbamazepine; pht: phenytoin; dph: phenytoin; lev: levetiracetam; ltg: lamotrigine;
 txa: tranexamic acid; dmpa: medroxyprogesterone; mpa: medroxyprogesterone; ecp: levonorgestrel; ocp: levonorgestrel +
 ethinylestradiol
mtx: methotrexate; hcq: hydroxychloroquine; aza: azathioprine; mmf: mycophenolate; csa: ciclosporin; 6mp: mercaptopurine;
 5fu: fluorouracil; dexa: dexamethasone; pred: prednisolone; lmwh: enoxaparin; ufh: heparin; epo: erythropoietin;
 fcm: ferric carboxymaltose; pam: pralidoxime; snp: nitroprusside; tt: tetanus toxoid; bcg: vaccine; opv: vaccine;
 ipv: vaccine; mmr: vaccine; dpt: vaccine; rl: ringer lactate; d5: dextrose; d10: dextrose; d25: dextrose; d50: dextrose;
 dns: dextrose + saline; kcl: potassium chloride; mgso4: magnesium sulfate; amk: amikacin; lzd: linezolid
rif: rifampicin; rmp: rifampicin; pza: pyrazinamide; emb: ethambutol; etb: ethambutol; bdq: bedaquiline; hrze: isoniazid +
 rifampicin + pyrazinamide + ethambutol; azt: zidovudine; zdv: zidovudine; 3tc: lamivudine; d4t: stavudine; nvp:
 nevirapine; efv: efavirenz; tdf: tenofovir; ftc: emtricitabine; dtg: dolutegravir; abc: abacavir; ddi: didanosine; lpv:
 lopinavir; rtv: ritonavir; tld: tenofovir + lamivudine + dolutegravir
lsd: lysergide; thc: tetrahydrocannabinol; ghb: gamma hydroxybutyrate; pcp: phencyclidine; mph: methylphenidate;
 dzp: diazepam; lzp: lorazepam; mso4: morphine
"""
"""Short names, as doctors and pharmacies write them, and of what each stands for. One that may be read as two drugs is
none (CTX, ATV, SP): it is then a drug that is not known."""

SALTS: Final = frozenset(
    "hydrochloride hydrocloride hydrochlride hcl dihydrochloride hydrobromide sodium potassium calcium magnesium maleate"
    " meleate mesylate besylate besilate tartrate bitartrate succinate fumarate fumrate phosphate diphosphate sulphate"
    " sulfate nitrate acetate citrate gluconate furoate propionate dipropionate valerate xinafoate bromide chloride iodide"
    " trihydrate monohydrate dihydrate anhydrous estolate stearate palmitate disoproxil axetil proxetil diethylamine"
    " diethylammonium tromethamine pivoxil salt base elemental decanoate etexilate lactate dinitrate".split()
)
FORMS: Final = frozenset(
    "tablet tablets tab tabs capsule capsules cap caps syrup syp suspension susp solution soln injection inj inhalation"
    " inhaler mdi rotacap rotacaps respules respule nebuliser nebulizer nebulisation drops drop eye ear nasal cream"
    " ointment oint gel lotion powder spray suppository pessary pessaries infusion vial ampoule amp oral liquid dry ds dt"
    " sr xr er cr mr od ec film coated dispersible chewable sublingual topical patch patches sachet sachets granules"
    " elixir mouth wash mouthwash gargle paint jelly iv im sc po mg mcg g gm ml kg iu units unit w v percent ip bp usp"
    " strength forte plus junior paed pead paediatric pediatric adult tablespoon teaspoon dose doses metered for the of"
    " in with each per release immediate extended enteric entric prolonged sustained long acting short once twice daily"
    " bd tds tid qid hs sos stat kit fixed combination fdc strip strips bottle plain sterile water topically use"
    " infant infants child children baby kid kids fluid sugar free flavour flavor flavoured orange mango large small blue"
    " pink red white yellow green colour colored coloured soluble concentrate concentrated solvent diluent lipid liposomal"
    " emulsion human recombinant micronized micronised natural synthetic preservative equivalent contains containing"
    " content compound mixture combi duo advance active relief rapid retard slow puff puffs chewing gum transdermal pen"
    " prefilled vaginal rectal lacs lakh lakhs million billion spores pack sheets blister adults years months days age"
    " between after before meals food morning night needed only over total therapy basal premixed intermediate"
    " regular analogue skin ophthalmic hand rub scalp shampoo soap bolus droplet form single heavy"
    " dusting sachet local intravenous"
    " mgs gms kgs mls ltr lts cc ug µg meq mmol ppm cfu min mins hr hrs hrly hourly wk wks yr yrs st nd rd th ac pc pr pv sl"
    " id neb nebs pfs xl la odt ir dr qd prn qs eq na nil nos no oil sol ss sf who to or as on an at by be".split()
)
"""Words that say in which form or salt a drug is given, and name none."""
